"""Answering a written question, as its checks do: with passages, with its proof alone, or without anything."""

import re
from collections.abc import Sequence

from infra.canonical import seed_number
from infra.models.protocol import Prompt
from infra.recipe import Asking
from tasks.asking.kind import Draft
from tasks.asking.writing import IntendedQuestion, passages_text
from tasks.judging.asking import judge_settings, quoted_prompt
from tasks.judging.context import ScoringContext
from tasks.judging.replies import Unusable, read_same, refusal_reason, without_thinking
from tasks.judging.same_answer import REFERENCE_FORMS
from tasks.judging.same_answer import STEP as SAME_STEP
from tasks.judging.steps import JudgeQuery, ModelRole, ReplyForm
from tasks.metrics import final_answer
from tasks.records.example import Example
from tasks.sample_prompt import sample_prompt

CLOSED_BOOK, FROM_PROOF, WITHOUT_SENTENCE, ANSWER, TRY, SELF_CONTAINED, SAME = (
    "closed_book",
    "from_proof",
    "without_sentence",
    "answer",
    "try",
    "self_contained",
    "same_answer",
)  # kinds of calls
YES_OR_NO = ReplyForm("choice", ("[[True]]", "[[False]]"))
_LABEL_TOKENS = 256
_NOT_STATED = re.compile(r"\[\[\s*(?:not stated|unknown|未提及|未说明|不知道)\s*\]\]", re.IGNORECASE)
_DENIES = re.compile(
    r"(?:the )?(?:passages?|documents?|texts?|context|answer|question)[^.]{0,40}\b(?:do(?:es)? not|doesn['’]t|don['’]t|"
    r"cannot|can['’]t|is not|isn['’]t|are not) (?:\w+ )?(?:state|say|mention|give|contain|provide|specif\w+|answer\w*|"
    r"be (?:answered|determined)|know\w*|stated|mentioned)|i (?:do not|don['’]t) know\b|not stated|unknown\b|"
    r"(?:文中|文档|材料|段落|上文)?(?:没有|并未|未)(?:提及|提到|说明|给出)|我?不知道",
    re.IGNORECASE,
)


def read_answer(text: str) -> str:
    """The answer in a reply; empty where it says that there is none. Raises Unusable."""
    reply = without_thinking(text)
    answer = final_answer(reply)
    if _NOT_STATED.search(answer) or _DENIES.match(answer):
        return ""
    reason = refusal_reason(answer)
    if reason:
        raise Unusable(reason)
    return answer


def answer_query(
    step: str,
    intended: IntendedQuestion,
    draft: Draft,
    passages: Sequence[tuple[str, str]],
    asking: Asking,
    scoring: ScoringContext,
    role: ModelRole,
    number: int = 0,
) -> JudgeQuery[str]:
    """The query for an answer from passages, (title, text). Try 0 is at the judge's temperature, later ones differ."""
    name = f"ask-{judge_settings(scoring, role).prompts}-answer"
    prompt = quoted_prompt(
        name, intended.language, {"question": draft.question}, passages=passages_text(list(passages))
    )
    return _query(step, intended, prompt, asking, _drawn(asking, scoring, intended, number) if number else ())


def try_query(
    intended: IntendedQuestion, draft: Draft, asking: Asking, scoring: ScoringContext, number: int
) -> JudgeQuery[str]:
    """The query for one try of the policy with the passages, in the words of the recipe's sampling."""
    text = "\n\n".join(f"{title}\n{passage}".strip() for title, passage in intended.passages)
    example = Example(intended.example_id, draft.question, intended.context_id, (), "", intended.language, "{}")
    policy = scoring.recipe.policy.model_copy(update={"system": None})  # which is put before every query
    prompt = sample_prompt(example, text, scoring.recipe.sampling.strategy, policy)
    return _query(TRY, intended, prompt, asking, _drawn(asking, scoring, intended, number))


def closed_book_query(
    intended: IntendedQuestion, draft: Draft, asking: Asking, scoring: ScoringContext, number: int
) -> JudgeQuery[str]:
    """The query for one try of the policy without anything."""
    prompt = quoted_prompt("ask-closed-book", intended.language, {"question": draft.question})
    return _query(CLOSED_BOOK, intended, prompt, asking, _drawn(asking, scoring, intended, number))


def self_contained_query(
    intended: IntendedQuestion, draft: Draft, scoring: ScoringContext, role: ModelRole
) -> JudgeQuery[bool]:
    """The query whether a question can be understood without the document."""
    prompts = judge_settings(scoring, role).prompts
    prompt = quoted_prompt(f"ask-{prompts}-self-contained", intended.language, {"question": draft.question})
    return _label_query(SELF_CONTAINED, intended, prompt, YES_OR_NO)


def same_query(
    intended: IntendedQuestion, draft: Draft, answer: str, scoring: ScoringContext, role: ModelRole
) -> JudgeQuery[bool]:
    """The query whether an answer says the same as the question's."""
    values = {"question": draft.question, "reference": "; ".join(draft.answers), "answer": answer}
    prompts = judge_settings(scoring, role).prompts
    prompt = quoted_prompt(f"judge-{prompts}-{SAME_STEP}", intended.language, values)
    return _label_query(SAME, intended, prompt, REFERENCE_FORMS[intended.language])


def _query(
    step: str,
    intended: IntendedQuestion,
    prompt: Prompt,
    asking: Asking,
    parameters: tuple[tuple[str, object], ...],
) -> JudgeQuery[str]:
    subject = f"question {intended.example_id}"
    return JudgeQuery(
        step, prompt, intended.context_id, read_answer, asking.answer_tokens, parameters=parameters, subject=subject
    )


def _label_query(step: str, intended: IntendedQuestion, prompt: Prompt, form: ReplyForm) -> JudgeQuery[bool]:
    subject = f"question {intended.example_id}"
    return JudgeQuery(step, prompt, intended.context_id, read_same, _LABEL_TOKENS, form, subject=subject)


def _drawn(
    asking: Asking, scoring: ScoringContext, intended: IntendedQuestion, number: int
) -> tuple[tuple[str, object], ...]:
    """The parameters of a drawn answer: a seed of its own for each try."""
    seed = seed_number(scoring.recipe.seed, intended.example_id, number)
    return ("temperature", asking.temperature), ("seed", seed)

"""Self-evaluation by reference: does an answer say the same as another sample? The model is asked about every pair.

SeaLong's utility u(y, y*) "reference-based self-evaluation" (arXiv 2411.08147, table 10): the policy sees the question,
the sample y* as the reference and the answer y, without the context, and says whether they give the same answer.
"""

from collections.abc import Mapping
from functools import partial

from tasks.judging.asking import judge_prompt, judge_settings
from tasks.judging.context import SCORE_DIGITS, AnsweredQuestion, ScoringContext
from tasks.judging.replies import read_same
from tasks.judging.steps import JudgeQuery, ModelRole, ReplyForm, Verdict
from tasks.records.example import Answer, Judgement

STEP = "self-evaluation-reference"
KIND = "self_evaluation_reference"
REFERENCE_FORMS = {
    "en": ReplyForm("choice", ("[[True]]", "[[False]]")),
    "zh": ReplyForm("choice", ("[[相同]]", "[[不同]]")),
}

TextPair = tuple[str, str, str]  # example_id, the reference's text, the answer's text


def reference_queries(
    question: AnsweredQuestion, max_tokens: int, scoring: ScoringContext, role: ModelRole
) -> dict[TextPair, JudgeQuery[bool]]:
    """A query for every ordered pair of different texts among the answers to a question."""
    first_with: dict[str, Answer] = {}
    for answer in question.answers:
        first_with.setdefault(answer.text.strip(), answer)
    queries = {}
    for reference_text, reference in first_with.items():
        for text, answer in first_with.items():
            if text != reference_text:
                pair = (question.example.example_id, reference_text, text)
                queries[pair] = _query(question, reference, answer, max_tokens, scoring, role)
    return queries


def reference_judgement(
    scorer: str, answer: Answer, question: AnsweredQuestion, verdicts: Mapping[TextPair, Verdict[bool]]
) -> Judgement:
    """The share of the samples, itself included, that give the same answer, in [0, 1].

    A sample with the same text gives the same answer. A sample without a verdict takes no part; when no other text has
    one, there is no score. Evidence: {"samples", "same", "missing"}.
    """
    own_text = answer.text.strip()
    same = missing = other_samples = 0
    reason: str | None = None
    keys: list[str] = []
    other_texts: set[str] = set()
    for reference in question.answers:
        text = reference.text.strip()
        if text == own_text:
            same += 1
            continue
        other_samples += 1
        verdict = verdicts[(answer.example_id, text, own_text)]
        if text not in other_texts:
            keys.extend(verdict.keys)
            other_texts.add(text)
        if verdict.value is None:
            missing += 1
            reason = reason or verdict.reason
        else:
            same += verdict.value
    samples = len(question.answers)
    evidence = {"samples": samples, "same": same, "missing": missing}
    if missing and missing == other_samples:
        return answer.judged(scorer, None, reason, evidence, keys)
    return answer.judged(scorer, round(same / (samples - missing), SCORE_DIGITS), None, evidence, keys)


def expected_calls(samples: int) -> float:
    """Calls for one question whose answers all differ."""
    return float(samples * (samples - 1))


def _query(
    question: AnsweredQuestion,
    reference: Answer,
    answer: Answer,
    max_tokens: int,
    scoring: ScoringContext,
    role: ModelRole,
) -> JudgeQuery[bool]:
    language = question.example.language
    values = {
        "question": question.example.question,
        "reference": reference.text.strip(),
        "answer": answer.text.strip(),
    }
    prompt = judge_prompt(STEP, language, judge_settings(scoring, role).prompts, **values)
    subject = f"question {answer.example_id}, answer {answer.sample_index} by answer {reference.sample_index}"
    read = partial(read_same, material="\n".join(values.values()))
    return JudgeQuery(
        KIND, prompt, question.context.context_id, read, max_tokens, REFERENCE_FORMS[language], subject=subject
    )

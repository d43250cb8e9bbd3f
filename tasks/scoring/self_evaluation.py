"""Self-evaluation: the policy itself judges its answers. A baseline of LongReward and SeaLong, in three forms.

rating      the policy rates the answer 0..10, with the context before it and no reference; the rating stands alone
explained   SeaLong's reference-free form (arXiv 2411.08147, table 10): likewise, but a brief explanation first, then a
            rating 1..5
reference   SeaLong's reference-based form: u(y, y*) is whether the policy says, without the context, that the answer y
            gives the same answer as the sample y*; the score is the mean over all samples, itself included, in [0, 1]
            (`tasks/judging/same_answer.py`). No gold answer is used.

With `asked: judge` the recipe's judge is asked the same instead, which shows what reading the whole context at once is
worth. In the first two forms every call reads the context, so N ratings cost about what N samples do; answers of one
context are sent together, and the context stands before them. In the third N answers take up to N x (N - 1) calls,
short ones. A prompt that does not fit the model's window is a score that is null.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from pydantic import Field

from infra.errors import RecipeError
from infra.recipe import Positive, Recipe, RecipeSection
from tasks.judging.asking import judge_settings, policy_as_judge
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.rating import Subject, rate_plainly, rating_judgement, rating_query
from tasks.judging.replies import read_rating
from tasks.judging.same_answer import KIND, STEP, TextPair, expected_calls, reference_judgement, reference_queries
from tasks.judging.steps import JudgeQuery, ReplyForm, Steps, ask
from tasks.records.example import Answer
from tasks.scoring import Scorer

NAME = "self_evaluation"
_EXPLAINED_STEP, _EXPLAINED_KIND = "self-evaluation-explained", "self_evaluation_explained"
_LOWEST, _HIGHEST = 1, 5
EXPLAINED_FORMS = {
    "full": ReplyForm("regex", r"[^\[\]]{1,1600}\[\[[1-5]\]\]"),
    "terse": ReplyForm("regex", r"\[\[[1-5]\]\]"),
}


class SelfEvaluationSettings(RecipeSection):
    """Who judges, and what it is asked."""

    asked: Literal["policy", "judge"] = Field(
        "policy", description="policy: the model that answered rates its answers; judge: the recipe's judge does"
    )
    form: Literal["rating", "explained", "reference"] = Field(
        "rating",
        description="rating: 0 to 10, alone; explained: a brief explanation, then 1 to 5 (SeaLong, reference-free); "
        "reference: without the context, the share of the samples that give the same answer (SeaLong, reference-based)",
    )
    max_tokens: Positive = Field(64, description="longest reply, in tokens: the rating or the word stands alone")
    explanation_tokens: Positive = Field(
        512, description="form explained: tokens for the explanation, above max_tokens"
    )


def score(questions: Sequence[AnsweredQuestion], settings: SelfEvaluationSettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer; evidence {"rating", "reply"}, or that of `reference_judgement`."""
    if settings.form == "reference":
        return _by_reference(questions, settings, scoring)
    if settings.form == "explained":
        return _explained(questions, settings, scoring)
    return rate_plainly(NAME, questions, _values, settings.max_tokens, scoring, settings.asked)


def calls(settings: SelfEvaluationSettings, recipe: Recipe, context_tokens: int) -> Mapping[str, float]:
    """Calls for one question, by kind; they go to the policy unless the judge is asked."""
    samples = recipe.sampling.samples
    if settings.form == "reference":
        return {KIND: expected_calls(samples)}
    return {_EXPLAINED_KIND if settings.form == "explained" else NAME: float(samples)}


def prompts(settings: SelfEvaluationSettings, recipe: Recipe) -> tuple[str, ...]:
    """The prompt file that is used. Raises RecipeError when a judge is to be asked and there is none."""
    if settings.asked == "judge" and recipe.judge is None:
        raise RecipeError("scoring.scorers: self_evaluation has asked: judge, and the recipe has no `judge` section")
    step = {"rating": "self-evaluation", "explained": _EXPLAINED_STEP, "reference": STEP}[settings.form]
    return (f"judge-{policy_as_judge(recipe).prompts}-{step}",)


def _values(question: AnsweredQuestion, answer: Answer) -> Mapping[str, str]:
    return {"context": question.context.text, "question": question.example.question, "answer": answer.text}


def _explained(
    questions: Sequence[AnsweredQuestion], settings: SelfEvaluationSettings, scoring: ScoringContext
) -> Steps:
    manner = judge_settings(scoring, settings.asked).prompts
    max_tokens = settings.max_tokens + settings.explanation_tokens
    answers = []
    queries = []
    for question in questions:
        for answer in question.answers:
            values = _values(question, answer)
            subject: Subject = (question, answer, values)
            query = rating_query(_EXPLAINED_STEP, subject, manner, max_tokens, EXPLAINED_FORMS[manner], _EXPLAINED_KIND)
            read = partial(read_rating, material="\n".join(values.values()), lowest=_LOWEST, highest=_HIGHEST)
            answers.append(answer)
            queries.append(replace(query, read=read))
    verdicts = yield from ask(queries, role=settings.asked)
    judgements = []
    for answer, verdict in zip(answers, verdicts, strict=True):
        judgements.append(rating_judgement(NAME, answer, verdict, None))
    return judgements


def _by_reference(
    questions: Sequence[AnsweredQuestion], settings: SelfEvaluationSettings, scoring: ScoringContext
) -> Steps:
    queries: dict[TextPair, JudgeQuery[bool]] = {}
    for question in questions:
        queries |= reference_queries(question, settings.max_tokens, scoring, settings.asked)
    verdicts = yield from ask(list(queries.values()), "pairs of answers", settings.asked)
    verdict_of_pair = dict(zip(queries, verdicts, strict=True))
    judgements = []
    for question in questions:
        for answer in question.answers:
            judgements.append(reference_judgement(NAME, answer, question, verdict_of_pair))
    return judgements


SCORER = Scorer(NAME, SelfEvaluationSettings, score, compares=True, calls=calls, prompts=prompts)

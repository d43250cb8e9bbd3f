"""Scorers that ask for one rating of an answer: their settings, and the judgements that a rating becomes.

A rating is sampled (reasons first, then `[[n]]`), or expected (`expected.py`), or both side by side for the report
to compare. What is rated, and beside what, is the scorer's own matter.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from infra.canonical import canonical
from infra.recipe import Positive, Recipe, RecipeSection
from tasks.judging import expected
from tasks.judging.asking import JudgeQuery, ReplyForm, Verdict, ask_all, judge_of, judge_prompt
from tasks.judging.replies import read_rating
from tasks.records.example import Answer, Judgement
from tasks.scoring import AnsweredQuestion, ScoringContext

SPOKEN = frozenset({"stop", "length"})  # finish reasons of calls that did bring an answer
RATING = r"\[\[(10|[0-9])\]\]"
EXPECTED = "expected-"  # before the step's name: the kind of call that asks for the expected rating
FORMS = {"full": ReplyForm("regex", r"[^\[\]]{1,1600}" + RATING), "terse": ReplyForm("regex", RATING)}


class RatingSettings(RecipeSection):
    """How a rating is asked for."""

    max_tokens: Positive = Field(512, description="longest reply of the judge, in tokens")
    expected: Literal["off", "beside", "instead"] = Field(
        "off",
        description="expected rating from the logprobs of one token: off; beside the sampled one, for the report; or "
        "instead of it",
    )


Subject = tuple[AnsweredQuestion, Answer]


def no_text_reason(answer: Answer) -> str | None:
    """Why an answer without text has no score; null for one that can be judged."""
    if answer.text.strip():
        return None
    return answer.finish_reason if answer.finish_reason not in SPOKEN else "empty_answer"


def rate(
    step: str,
    subjects: Sequence[tuple[AnsweredQuestion, Answer, Mapping[str, str]]],
    settings: RatingSettings,
    bench: ScoringContext,
) -> list[Judgement]:
    """Ratings of answers by the prompt of `step`, filled with each subject's values.

    One judgement each; evidence {"rating", "reply"}, and where the expected rating is asked for {"expected"}, with
    {"expected_reason"} when it is null.
    """
    asked: list[JudgeQuery[float]] = []
    if settings.expected != "instead":
        asked += [_sampled(step, case, values, settings, bench) for case, _, values in subjects]
    if settings.expected != "off":
        asked += [_expected(step, case, values) for case, _, values in subjects]
    words = ask_all(asked, bench)
    nobody: list[Verdict[float] | None] = [None] * len(subjects)
    ratings = words[: len(subjects)] if settings.expected != "instead" else nobody
    expectations = words[-len(subjects) :] if settings.expected != "off" else nobody
    return [
        _judgement(step, answer, rating, mean)
        for (_, answer, _), rating, mean in zip(subjects, ratings, expectations, strict=True)
    ]


def rate_answers(
    step: str, cases: Sequence[AnsweredQuestion], settings: RatingSettings, bench: ScoringContext
) -> list[Judgement]:
    """Ratings of every answer from the question and the answer alone; null for one without text."""
    spoken = [
        (case, answer, {"question": case.example.question, "answer": answer.text})
        for case in cases
        for answer in case.answers
        if no_text_reason(answer) is None
    ]
    rated = {(each.example_id, each.sample_index): each for each in rate(step, spoken, settings, bench)}
    return [
        rated.get((answer.example_id, answer.sample_index)) or unscored(step, answer)
        for case in cases
        for answer in case.answers
    ]


def unscored(scorer: str, answer: Answer) -> Judgement:
    """The judgement on an answer without text."""
    return Judgement(
        answer.example_id, answer.sample_index, scorer, None, no_text_reason(answer) or "empty_answer", "{}", ()
    )


def rating_calls(step: str, settings: Any, recipe: Recipe, context_tokens: int) -> dict[str, float]:
    """Calls for one question with all its answers, by kind."""
    kinds = {"off": (step,), "beside": (step, EXPECTED + step), "instead": (EXPECTED + step,)}[settings.expected]
    return {kind: float(recipe.sampling.samples) for kind in kinds}


def rating_prompts(step: str, settings: Any, recipe: Recipe) -> tuple[str, ...]:
    """Names of the prompt files that are used."""
    sampled = (f"judge-{recipe.judge.prompts}-{step}",) if recipe.judge and settings.expected != "instead" else ()
    return (*sampled, *((f"judge-expected-{step}",) if settings.expected != "off" else ()))


def _sampled(
    step: str, case: AnsweredQuestion, values: Mapping[str, str], settings: RatingSettings, bench: ScoringContext
) -> JudgeQuery[float]:
    judge, _ = judge_of(bench)
    prompt = judge_prompt(step, case.example.language, judge.prompts, **values)
    return JudgeQuery(step, prompt, case.context.context_id, read_rating, settings.max_tokens, FORMS[judge.prompts])


def _expected(step: str, case: AnsweredQuestion, values: Mapping[str, str]) -> JudgeQuery[float]:
    return JudgeQuery(
        EXPECTED + step,
        judge_prompt(step, case.example.language, "expected", **values),
        case.context.context_id,
        expected.read_expected,
        expected.MAX_TOKENS,
        tries=1,
        reads="raw",
        parameters=expected.PARAMETERS,
    )


def _judgement(step: str, answer: Answer, sampled: Verdict[float] | None, mean: Verdict[float] | None) -> Judgement:
    word = sampled or mean
    assert word is not None  # one of the two is always asked for
    evidence: dict[str, Any] = {"rating": sampled.value if sampled else None, "reply": word.reply}
    if mean is not None:
        evidence["expected"] = mean.value
        if mean.reason is not None:
            evidence["expected_reason"] = mean.reason
    keys = (*(sampled.keys if sampled else ()), *(mean.keys if mean else ()))
    score = None if word.value is None else float(word.value)
    return Judgement(
        answer.example_id, answer.sample_index, step, score, word.reason, canonical(evidence).decode(), keys
    )

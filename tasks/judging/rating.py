"""Ratings of answers: how the judge is asked for one, and the judgement that it becomes.

A rating is sampled (reasons first, then `[[n]]`), or expected, or both beside each other for the report to compare.

The expected rating is the mean of the judge's own distribution over the ratings, from one output token. The judge is
asked for one digit, 0 to 9, because every tokenizer has the digits as single tokens and few have 10. Score = 10/9 x
the sum of p(d) x d over the digits among the 20 likeliest tokens, their probabilities normalised. When the digits make
up less than half of the probability, the judge did not rate, and there is no score. The temperature is 1, so that
servers which report the probabilities that they sample from report the model's own as well.
"""

import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import Field

from infra.recipe import Positive, Recipe, RecipeSection
from tasks.judging.asking import judge_prompt, judge_settings
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.replies import Unusable, read_rating
from tasks.judging.steps import JudgeQuery, ModelRole, ReplyForm, Step, Verdict, ask
from tasks.records.example import Answer, Judgement

RATING = r"\[\[(10|[0-9])\]\]"
FORMS = {"full": ReplyForm("regex", r"[^\[\]]{1,1600}" + RATING), "terse": ReplyForm("regex", RATING)}
EXPECTED = "expected-"  # before the step's name: the kind of call that asks for the expected rating
EXPECTED_PARAMETERS = (("logprobs", True), ("temperature", 1.0), ("top_logprobs", 20))
_EXPECTED_TOKENS = 1
_LEAST_MASS = 0.5  # of the probability that the digits must have together
_DIGITS = "0123456789"
_WORD_STARTS = " \t\r\n▁ĠĊ"  # blanks, and what they look like in the vocabularies of tokenizers


class RatingSettings(RecipeSection):
    """How a rating is asked for."""

    max_tokens: Positive = Field(512, description="longest reply of the judge, in tokens")
    expected: Literal["off", "beside", "instead"] = Field(
        "off",
        description="expected rating from the logprobs of one token: off; beside the sampled one, for the report; or "
        "instead of it",
    )


Subject = tuple[AnsweredQuestion, Answer, Mapping[str, str]]  # what is rated, and the values of the prompt


def rate(
    step: str, subjects: Sequence[Subject], settings: RatingSettings, scoring: ScoringContext
) -> Generator[Step, Any, list[Judgement]]:
    """Ratings of answers by the prompt of `step`, filled with each subject's values; one judgement each, in order.

    Evidence: {"rating", "reply"}; where the expected rating is asked for {"expected"}, and {"expected_reason"} when
    it is null.
    """
    nothing: list[Verdict[Any] | None] = [None] * len(subjects)
    sampled = expected = nothing
    if settings.expected != "instead":
        prompts = judge_settings(scoring).prompts
        queries = [rating_query(step, subject, prompts, settings.max_tokens, FORMS[prompts]) for subject in subjects]
        sampled = [*(yield from ask(queries))]
    if settings.expected != "off":
        expected_queries = [_expected_query(step, subject) for subject in subjects]
        expected = [*(yield from ask(expected_queries))]
    judgements = []
    for (_, answer, _), rating, mean in zip(subjects, sampled, expected, strict=True):
        judgements.append(rating_judgement(step, answer, rating, mean))
    return judgements


def rate_answers(
    step: str, questions: Sequence[AnsweredQuestion], settings: RatingSettings, scoring: ScoringContext
) -> Generator[Step, Any, list[Judgement]]:
    """Ratings of every answer from the question and the answer alone."""
    subjects: list[Subject] = []
    for question in questions:
        for answer in question.answers:
            subjects.append((question, answer, {"question": question.example.question, "answer": answer.text}))
    return (yield from rate(step, subjects, settings, scoring))


def rate_plainly(
    scorer: str,
    questions: Sequence[AnsweredQuestion],
    values: Callable[[AnsweredQuestion, Answer], Mapping[str, str]],
    max_tokens: int,
    scoring: ScoringContext,
    role: ModelRole = "judge",
) -> Generator[Step, Any, list[Judgement]]:
    """Ratings that are given alone, without reasons before them; evidence {"rating", "reply"}.

    `values` fills the placeholders of the scorer's prompt, which is named after it.
    """
    prompts = judge_settings(scoring, role).prompts
    step = scorer.replace("_", "-")
    subjects: list[Subject] = []
    queries = []
    for question in questions:
        for answer in question.answers:
            subject = (question, answer, values(question, answer))
            subjects.append(subject)
            queries.append(rating_query(step, subject, prompts, max_tokens, ReplyForm("regex", RATING), scorer))
    verdicts = yield from ask(queries, role=role)
    judgements = []
    for (_, answer, _), verdict in zip(subjects, verdicts, strict=True):
        judgements.append(rating_judgement(scorer, answer, verdict, None))
    return judgements


def rating_calls(step: str, settings: Any, recipe: Recipe, context_tokens: int) -> dict[str, float]:
    """Expected calls for one question with all its answers, by kind."""
    kinds = {"off": (step,), "beside": (step, EXPECTED + step), "instead": (EXPECTED + step,)}[settings.expected]
    return {kind: float(recipe.sampling.samples) for kind in kinds}


def rating_prompts(step: str, settings: Any, recipe: Recipe) -> tuple[str, ...]:
    """Names of the prompt files that are used."""
    sampled = (f"judge-{recipe.judge.prompts}-{step}",) if recipe.judge and settings.expected != "instead" else ()
    return (*sampled, *((f"judge-expected-{step}",) if settings.expected != "off" else ()))


def read_expected(raw: str) -> float:
    """The expected rating, in 0..10 to 6 decimals, of a chat completion's JSON with logprobs. Raises Unusable."""
    try:
        likeliest = _likeliest(json.loads(raw)["choices"][0]["logprobs"]["content"][0])
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise Unusable("no_logprobs") from error
    mass = []
    for digit in _DIGITS:
        mass.append(math.fsum(p for token, p in likeliest if token.strip(_WORD_STARTS) == digit))
    total = math.fsum(mass)
    if not total >= _LEAST_MASS:
        raise Unusable("off_scale")
    return round(10 / 9 * math.fsum(digit * p for digit, p in enumerate(mass)) / total, 6)


def _likeliest(place: dict[str, Any]) -> list[tuple[str, float]]:
    """(token, probability) of the likeliest tokens at a place; the drawn token may stand beside the list."""
    candidates = [*place["top_logprobs"]]
    if not any(candidate["token"] == place["token"] for candidate in candidates) and "logprob" in place:
        candidates.append(place)
    likeliest = []
    for candidate in candidates:
        logprob = float(candidate["logprob"])
        if math.isnan(logprob):
            raise ValueError("a logprob that is no number")
        likeliest.append((str(candidate["token"]), math.exp(min(logprob, 0.0))))
    return likeliest


def rating_query(
    step: str, subject: Subject, prompts: str, max_tokens: int, form: ReplyForm, kind: str | None = None
) -> JudgeQuery[int]:
    """The query for the rating of one answer. `step` names the prompt, and the call where `kind` does not."""
    question, answer, values = subject
    return JudgeQuery(
        kind or step,
        judge_prompt(step, question.example.language, prompts, **values),
        question.context.context_id,
        partial(read_rating, material="\n".join(values.values())),
        max_tokens,
        form,
        subject=subject_of(answer),
    )


def _expected_query(step: str, subject: Subject) -> JudgeQuery[float]:
    question, answer, values = subject
    return JudgeQuery(
        EXPECTED + step,
        judge_prompt(step, question.example.language, "expected", **values),
        question.context.context_id,
        read_expected,
        _EXPECTED_TOKENS,
        attempts=1,
        reads="raw",
        parameters=EXPECTED_PARAMETERS,
        subject=subject_of(answer),
    )


def subject_of(answer: Answer) -> str:
    """An answer as messages name it."""
    return f"question {answer.example_id}, answer {answer.sample_index}"


def rating_judgement(
    scorer: str, answer: Answer, sampled: Verdict[Any] | None, expected: Verdict[float] | None
) -> Judgement:
    """The judgement that a rating becomes: sampled, expected, or both beside each other."""
    verdict = sampled or expected
    assert verdict is not None  # one of the two is always asked for
    evidence: dict[str, Any] = {"rating": sampled.value if sampled else None, "reply": verdict.reply}
    keys = sampled.keys if sampled else ()
    if expected is not None:
        evidence["expected"] = expected.value
        if expected.reason is not None:
            evidence["expected_reason"] = expected.reason
        keys = (*keys, *expected.keys)
    score = None if verdict.value is None else float(verdict.value)
    return answer.judged(scorer, score, verdict.reason, evidence, keys)

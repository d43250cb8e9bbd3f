"""Needles: sentences with a number, hidden in a haystack at depths in [0, 1] of its tokens.

After Kamradt's test (2023) and RULER (Hsieh et al., 2024); the sentences are our own.

    single       one needle in the text
    multi_key    a needle at every depth, and more where these are fewer than four; one of them is asked for
    multi_query  the same text; four of the needles are asked for
    multi_value  four needles about the same thing; all of their numbers are asked for

At different depths a haystack's text is the same up to the first needle, so their questions share the server's cache;
those of `multi_key` and `multi_query` share the whole text.
"""

import random
from collections.abc import Iterator, Sequence

from infra.canonical import seeded_random
from tasks.evaluation.generated.question import Case, Hidden, Workshop, check_hidden
from tasks.evaluation.generated.words import draw_keys
from tasks.evaluation.suites import SuiteQuestion
from tasks.prompts import load_prompt
from tasks.questions.question import question_text

SINGLE, MULTI_KEY, MULTI_QUERY, MULTI_VALUE = "single", "multi_key", "multi_query", "multi_value"
NEEDLES = 4  # at least, of a text with several
_DIGITS = 7
_LISTED = {"en": ", ", "zh": "、"}


def single(case: Case, depths: Sequence[float], workshop: Workshop) -> Iterator[SuiteQuestion]:
    """A question at each depth, each with a needle of its own."""
    rng = seeded_random(workshop.seed, SINGLE, workshop.language, case.length, case.sample)
    keys = draw_keys(workshop.language, len(depths), rng)
    values = _numbers(len(depths), rng)
    needles: list[Hidden] = []
    questions: list[str] = []
    for depth, key, value in zip(depths, keys, values, strict=True):
        needles.append(_needle(depth, key, value, workshop.language))
        questions.append(question_text("needle", workshop.language, key=key))
    haystack = workshop.haystack(case, needles[:1], questions)
    for needle, question, value in zip(needles, questions, values, strict=True):
        counted = workshop.hide(haystack, [needle], case, question)
        check_hidden(case, counted.text, [needle])
        yield workshop.question(case, f"{needle.depth:g}", counted, question, [value], {"depth": needle.depth})


def multi_key(case: Case, depths: Sequence[float], workshop: Workshop) -> Iterator[SuiteQuestion]:
    """A question at each depth, about a text with needles at all depths."""
    needles, keys, values = _several(case, depths, workshop)
    questions = [question_text("needle", workshop.language, key=key) for key in keys[: len(depths)]]
    haystack = workshop.haystack(case, needles, questions)
    for depth, question, value in zip(depths, questions, values, strict=False):
        counted = workshop.hide(haystack, needles, case, question)
        check_hidden(case, counted.text, needles)
        yield workshop.question(case, f"{depth:g}", counted, question, [value], {"depth": depth})


def multi_query(case: Case, depths: Sequence[float], workshop: Workshop) -> Iterator[SuiteQuestion]:
    """One question about four of the needles of a text with needles at all depths."""
    needles, keys, values = _several(case, depths, workshop)
    rng = seeded_random(workshop.seed, MULTI_QUERY, workshop.language, case.length, case.sample)
    chosen = rng.sample(range(len(keys)), NEEDLES)
    names = _LISTED[workshop.language].join(keys[place] for place in chosen)
    question = question_text("needle_keys", workshop.language, keys=names)
    haystack = workshop.haystack(case, needles, [question])
    counted = workshop.hide(haystack, needles, case, question)
    check_hidden(case, counted.text, needles)
    yield workshop.question(case, "", counted, question, [values[place] for place in chosen], {})


def multi_value(case: Case, depths: Sequence[float], workshop: Workshop) -> Iterator[SuiteQuestion]:
    """One question about all numbers of one thing, which stand at random depths."""
    rng = seeded_random(workshop.seed, MULTI_VALUE, workshop.language, case.length, case.sample)
    (key,) = draw_keys(workshop.language, 1, rng)
    values = _numbers(NEEDLES, rng)
    needles = [_needle(rng.random(), key, value, workshop.language) for value in values]
    question = question_text("needle_values", workshop.language, key=key, count=str(NEEDLES))
    haystack = workshop.haystack(case, needles, [question])
    counted = workshop.hide(haystack, needles, case, question)
    check_hidden(case, counted.text, needles)
    yield workshop.question(case, "", counted, question, values, {})


def _several(case: Case, depths: Sequence[float], workshop: Workshop) -> tuple[list[Hidden], list[str], list[str]]:
    """Needles at all depths and at random ones up to `NEEDLES`, with their keys and numbers."""
    rng = seeded_random(workshop.seed, MULTI_KEY, workshop.language, case.length, case.sample)
    all_depths = [*depths, *(rng.random() for _ in range(NEEDLES - len(depths)))]
    keys = draw_keys(workshop.language, len(all_depths), rng)
    values = _numbers(len(all_depths), rng)
    needles = []
    for depth, key, value in zip(all_depths, keys, values, strict=True):
        needles.append(_needle(depth, key, value, workshop.language))
    return needles, keys, values


def _needle(depth: float, key: str, value: str, language: str) -> Hidden:
    return Hidden(depth, load_prompt("hidden-needle", language).render(key=key, value=value))


def _numbers(count: int, rng: random.Random) -> list[str]:
    """Distinct numbers of seven digits."""
    return [str(number) for number in rng.sample(range(10 ** (_DIGITS - 1), 10**_DIGITS), count)]


NEEDLE_TASKS = {SINGLE: single, MULTI_KEY: multi_key, MULTI_QUERY: multi_query, MULTI_VALUE: multi_value}
NEEDLE_ANSWER_TOKENS = {"": 64, MULTI_VALUE: 128, MULTI_QUERY: 128}  # by task; "" for all others

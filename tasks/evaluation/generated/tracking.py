"""Variables: a value goes from one to the next, in sentences hidden in a haystack; after RULER's variable tracking.

One chain of five variables. Its sentences stand in their order, at random depths.
"""

import itertools
import string
from collections.abc import Iterator, Sequence

from infra.canonical import seeded_random
from tasks.evaluation.generated.question import Case, Hidden, Workshop, check_hidden
from tasks.evaluation.suites import SuiteQuestion
from tasks.prompts import load_prompt
from tasks.questions.question import question_text

TRACKING = "variable_tracking"
HOPS = 4
_LETTERS = 5


def variable_tracking(case: Case, depths: Sequence[float], workshop: Workshop) -> Iterator[SuiteQuestion]:
    """One question: which variables have the value."""
    language = workshop.language
    rng = seeded_random(workshop.seed, TRACKING, language, case.length, case.sample)
    names: list[str] = []
    while len(names) <= HOPS:
        name = "".join(rng.choices(string.ascii_uppercase, k=_LETTERS))
        if name not in names:
            names.append(name)
    value = str(rng.randrange(10_000, 100_000))
    sentences = [load_prompt("hidden-variable", language).render(name=names[0], value=value)]
    for source, name in itertools.pairwise(names):
        sentences.append(load_prompt("hidden-copy", language).render(name=name, source=source))
    places = sorted(rng.random() for _ in sentences)
    hidden = [Hidden(depth, sentence) for depth, sentence in zip(places, sentences, strict=True)]
    question = question_text("tracking", language, value=value)
    counted = workshop.hide(workshop.haystack(case, hidden, [question]), hidden, case, question)
    check_hidden(case, counted.text, hidden)
    _check_order(case, counted.text, sentences)
    yield workshop.question(case, "", counted, question, names, {})


def _check_order(case: Case, text: str, sentences: Sequence[str]) -> None:
    places = [text.index(sentence) for sentence in sentences]
    assert places == sorted(places), f"{case.task}: a variable is used before it has a value"

"""Common words: a numbered list in which ten words come far more often than all others; after RULER.

The ten fill half of the list, but come at most 30 times each, and the others at most 3 times.
"""

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence

from infra.canonical import seeded_random
from infra.errors import EvaluationError
from tasks.evaluation.generated.fitting import filled, word_ends
from tasks.evaluation.generated.question import Case, Workshop
from tasks.evaluation.generated.words import draw_words
from tasks.evaluation.suites import SuiteQuestion
from tasks.questions.question import question_text

COMMON = "common_words"
WORDS = 10
_LEAST, _MOST = 3, 30  # times that each of them comes
_FILLED = 0.99  # of the room; the rest is filled afterwards, up to its end
_FEWEST_MORE = 60  # words that may follow the list, to make the length exact


def common_words(case: Case, depths: Sequence[float], workshop: Workshop) -> Iterator[SuiteQuestion]:
    """One question: which words come most often."""
    language = workshop.language
    rng = seeded_random(workshop.seed, COMMON, language, case.length, case.sample)
    question = question_text("common_words", language, count=str(WORDS))
    render = workshop.prompt(question)
    room = case.target - workshop.counter.whole_prompt("", render)
    entries = room // max(1, max(workshop.counter.pieces([f" 100. {word}" for word in draw_words(language, 20, rng)])))
    often = max(_LEAST, min(_MOST, entries // (2 * WORDS)))
    seldom = max(1, often // 10)
    more = _FEWEST_MORE + entries // 20
    words = draw_words(language, WORDS + 2 * entries // seldom + more, rng)
    common = words[:WORDS]
    listed = _entries(words[:-more], often, seldom, int(_FILLED * room), workshop, rng)
    text = "".join(_numbered(listed, 1)).lstrip()
    rest = "".join(_numbered(words[-more:], len(listed) + 1))
    counted = workshop.counter.count(text)
    counted = filled(counted, len(text), len(text), rest, word_ends(rest), case.target, workshop.counter, render)
    check_common(case, counted.text, common, often)
    yield workshop.question(case, "", counted, question, common, {}, in_haystack=False)


def _entries(
    words: Sequence[str], often: int, seldom: int, tokens: int, workshop: Workshop, rng: random.Random
) -> list[str]:
    """The words of a list of at most `tokens` tokens, in random order."""
    sizes = workshop.counter.pieces([f" {word}" for word in words])
    fixed = often * sum(sizes[:WORDS])

    def size(others: int) -> int:
        entries = often * WORDS + seldom * others
        numbers = workshop.counter.pieces([f" {number}." for number in range(1, entries + 1)])
        return fixed + seldom * sum(sizes[WORDS : WORDS + others]) + sum(numbers)

    others = bisect_right(range(len(words) - WORDS), tokens, key=size) - 1
    if others < 1:
        raise EvaluationError(f"{COMMON}: {tokens} tokens hold no list of common words; give longer `lengths`")
    entries = [*words[:WORDS]] * often + [*words[WORDS : WORDS + others]] * seldom
    rng.shuffle(entries)
    return entries


def _numbered(words: Sequence[str], first: int) -> Iterator[str]:
    for number, word in enumerate(words, first):
        yield f" {number}. {word}"


def check_common(case: Case, text: str, common: Sequence[str], often: int) -> None:
    """Raise EvaluationError where other words than these come most often in the list."""
    counts = Counter(text.split()[1::2])
    most = counts.most_common(WORDS + 1)
    if {word for word, _ in most[:WORDS]} != set(common) or not most[WORDS][1] < most[WORDS - 1][1] == often:
        raise EvaluationError(f"{case.task}, {case.length} tokens: the common words got lost; report this, please")

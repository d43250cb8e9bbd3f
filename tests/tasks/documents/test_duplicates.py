"""Near-duplicates: the first by order stays, the likeness is about the share of word sequences in common."""

import random
from contextlib import closing

import pytest

from infra.canonical import text_id
from tasks.documents.duplicates import Duplicates


def random_text(seed: int, words: int = 600) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(5000)}" for _ in range(words)]


def with_changes(words: list[str], changes: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    changed = list(words)
    for place in rng.sample(range(len(words)), changes):
        changed[place] = f"new{rng.randrange(10**6)}"
    return changed


def likeness(one: list[str], other: list[str]) -> float:
    first, second = ({tuple(words[place : place + 5]) for place in range(len(words) - 4)} for words in (one, other))
    return len(first & second) / len(first | second)


def earlier(duplicates: Duplicates, source: str, words: list[str]) -> tuple[str, float | None] | None:
    text = " ".join(words)
    return duplicates.earlier(text_id(text), source, text)


def test_near_duplicates_are_recognised_and_others_are_not() -> None:
    with closing(Duplicates(0.8)) as duplicates:
        for seed in range(40):
            assert earlier(duplicates, f"original {seed}", random_text(seed)) is None
        for seed in range(40):
            near = with_changes(random_text(seed), 5)
            assert likeness(random_text(seed), near) > 0.9
            match = earlier(duplicates, "near", near)
            assert match is not None
            assert match[0] == f"original {seed}"
            far = with_changes(random_text(seed), 60)
            assert likeness(random_text(seed), far) < 0.5
            assert earlier(duplicates, "far", far) is None


def test_equal_texts_are_duplicates_without_a_threshold() -> None:
    with closing(Duplicates(None)) as duplicates:
        assert earlier(duplicates, "a", ["one", "two"]) is None
        assert earlier(duplicates, "b", ["one", "two"]) == ("a", None)
        assert earlier(duplicates, "c", ["one", "two", "three"]) is None


@pytest.mark.parametrize("changed", ["改为", "换成"])
def test_chinese_texts_are_compared_by_characters(changed: str) -> None:
    text = "".join(chr(0x4E00 + random.Random(3).randrange(20000) + n) for n in range(600))
    with closing(Duplicates(0.8)) as duplicates:
        assert duplicates.earlier(text_id(text), "a", text) is None
        near = text[:300] + changed + text[302:]
        assert duplicates.earlier(text_id(near), "b", near) is not None

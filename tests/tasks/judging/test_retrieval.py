"""The nearest chunks: by cosine, in document order, each context embedded once."""

from typing import Any

import numpy as np
import pytest

from infra.models.embedding.embedder import Embedder
from tasks.judging.retrieval import nearest_chunks
from tasks.scoring import ScoringContext
from tests.support.scripted_judge import ScriptedJudge, case_of, count_words, judged_recipe, scoring_with

WORDS = ["Dunvale", "Facts", "home", "Passage", "Question", "Answer", "then", "need"]
CONTEXT = case_of(context="".join(f"{word} {word} {word} {word} " for word in WORDS)).context


def bench(encode: Any = count_words) -> ScoringContext:
    return scoring_with(ScriptedJudge(lambda request: ""), judged_recipe(), Embedder(encode))


def found(statement: str, count: int, own: ScoringContext | None = None) -> list[str]:
    [spans] = nearest_chunks([statement], CONTEXT, 4, count, own or bench())
    return [CONTEXT.text[start:end].split()[0] for start, end in spans]


def test_the_nearest_chunks_come_in_the_order_of_the_document() -> None:
    assert found("need need home home home Facts", 3) == ["Facts", "home", "need"]
    assert found("need need need Facts home", 1) == ["need"]


def test_equally_near_chunks_are_taken_from_the_start_of_the_document() -> None:
    assert found("nothing of it", 5) == WORDS[:5]


def test_a_difference_beyond_what_machines_agree_on_is_a_tie() -> None:
    def noisy(texts: list[str]) -> Any:
        return np.array([[1.0, 0.5 + 1e-6 * (place % 3)] for place in range(len(texts))], np.float32)

    assert found("Dunvale", 5, bench(noisy)) == WORDS[:5]


@pytest.mark.parametrize(("context", "spans"), [("", ()), ("home", ((0, 4),)), (" \n ", ((0, 3),))])
def test_a_context_shorter_than_a_chunk(context: str, spans: tuple[tuple[int, int], ...]) -> None:
    assert nearest_chunks(["home"], case_of(context=context).context, 128, 5, bench()) == [spans]
    assert nearest_chunks([], case_of(context=context).context, 128, 5, bench()) == []


def test_the_chunks_of_a_context_are_embedded_once_whatever_is_looked_up() -> None:
    embedded: list[str] = []

    def counting(texts: list[str]) -> Any:
        embedded.extend(texts)
        return count_words(texts)

    own = bench(counting)
    for statement in ("one statement", "another", "a third"):
        nearest_chunks([statement, "and more"], CONTEXT, 4, 5, own)
    chunks = [text for text in embedded if text in CONTEXT.text]
    assert len(chunks) == len(set(chunks)) == len(WORDS)

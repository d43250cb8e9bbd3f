"""Chunks are the whole context, never cut a character, and are cut once."""

import itertools
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.canonical import text_id
from infra.models.tokens import count_tokens, load_tokenizer
from tasks import chunks
from tasks.judging import retrieval
from tasks.judging.retrieval import chunk_spans
from tasks.records.example import Context
from tasks.scoring import ScoringContext
from tests.support.scripted_judge import ScriptedJudge, judged_recipe, scoring_with

TOKENIZER = load_tokenizer("microworld")
WORDS = ("The home of ", "Dunvale", "😀", "你好", "👨‍👩‍👧", "naïve ", "\n", " ", "é")
TEXTS = st.lists(st.sampled_from(WORDS), max_size=60)


class NoOffsets:
    """A tokenizer that can only count."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return list(TOKENIZER.encode(text, add_special_tokens=add_special_tokens))


def scoring() -> ScoringContext:
    """With a cache of its own."""
    return scoring_with(ScriptedJudge(lambda request: ""), judged_recipe())


def context_of(text: str) -> Context:
    return Context(text_id(text), text, 0, (), (), ())


@settings(max_examples=60, deadline=None)
@given(TEXTS.map("".join), st.sampled_from([32, 50]), st.booleans())
def test_chunks_cover_the_text_without_gap_or_overlap_and_keep_to_their_size(
    text: str, size: int, with_offsets: bool
) -> None:
    tokenizer = TOKENIZER if with_offsets else NoOffsets()
    with patch.object(retrieval, "_tokenizer", lambda *_: tokenizer):
        spans = chunk_spans(context_of(text), size, scoring())
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(start < end for start, end in spans)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))
    counts = count_tokens(TOKENIZER, [text[start:end] for start, end in spans])
    assert max(counts, default=0) <= size + 2  # cut out of its neighbours, a chunk may be spelt with a token more


def test_a_character_longer_than_a_chunk_is_not_cut() -> None:
    spans = chunk_spans(context_of("😀😀😀"), 2, scoring())
    assert spans == ((0, 1), (1, 2), (2, 3))


@pytest.mark.parametrize(("text", "spans"), [("", ()), ("Dunvale", ((0, 7),))])
def test_short_contexts(text: str, spans: tuple[tuple[int, int], ...]) -> None:
    assert chunk_spans(context_of(text), 4096, scoring()) == spans


def test_a_context_is_tokenised_once_whatever_is_cut_from_it() -> None:
    own, context = scoring(), context_of("The home of Alvira is Dunvale. " * 50)
    with patch.object(retrieval, "token_starts", wraps=retrieval.token_starts) as tokenised:
        sizes = [len(chunk_spans(context, size, own)) for size in (16, 64, 16, 128)]
    assert tokenised.call_count == 1
    assert sizes[0] > sizes[1] > sizes[3]


@settings(max_examples=60, deadline=None)
@given(TEXTS.map("".join))
def test_chunks_are_as_full_as_whole_characters_allow(text: str) -> None:
    offsets = TOKENIZER.backend_tokenizer.encode(text, add_special_tokens=False).offsets
    spans = chunk_spans(context_of(text), 16, scoring())
    for start, end in spans[:-1]:
        assert 16 - 3 <= sum(start <= first < end for first, _ in offsets) <= 16  # 😀 has four tokens


@pytest.mark.parametrize("text", ["The home of Alvira is Dunvale. ", "天空是蓝色的。", "x" * 40])
def test_a_very_long_text_is_tokenised_in_pieces_to_the_same_chunks(text: str) -> None:
    whole = chunk_spans(context_of(text * 300), 128, scoring())
    with patch.multiple(chunks, _PIECE_CHARACTERS=2000, _EDGE_CHARACTERS=100):
        assert chunk_spans(context_of(text * 300), 128, scoring()) == whole


def test_of_a_text_of_64k_tokens_every_character_is_tokenised_once() -> None:
    own = scoring()
    with patch.object(chunks, "_starts", wraps=chunks._starts) as tokenised:
        context = context_of("The home of Alvira is Dunvale. " * 5_040)  # 13 tokens each
        sizes = [len(chunk_spans(context, size, own)) for size in (4096, 128)]
    assert sum(len(call.args[1]) for call in tokenised.call_args_list) == len(context.text)
    assert sizes == [16, 512]

"""Middle truncation with a tokenizer of one token a byte, so that every count can be made by hand."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.canonical import text_id
from infra.models.tokens import count_tokens, load_tokenizer
from tasks.evaluation.truncation import Fitted, cut_middle, fit_context, fit_messages
from tasks.records.example import Context
from tasks.records.history import history_text, messages_of
from tests.support.tokenizer import save_byte_tokenizer

AROUND = 10  # tokens of the prompt around the context


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_tokenizer(save_byte_tokenizer(tmp_path_factory.mktemp("bytes")))


def fit(text: str, limit: int, tokenizer: Any) -> Fitted:
    return fit_context(text, limit, tokenizer, lambda context: AROUND + count_tokens(tokenizer, [context])[0])


def test_the_first_and_the_last_half_of_the_spans_are_kept() -> None:
    spans = [(i, i + 1) for i in range(6)]
    assert cut_middle("abcdef", spans, 4) == "abef"
    assert cut_middle("abcdef", spans, 3) == "abf"
    assert cut_middle("abcdef", spans, 1) == "a"
    assert cut_middle("abcdef", spans, 0) == ""
    assert cut_middle("abcdef", spans, 6) == "abcdef"


def test_a_prompt_that_fits_is_left_alone(tokenizer: Any) -> None:
    assert fit("abcdef", AROUND + 6, tokenizer) == Fitted("abcdef", 16, 16)
    assert not fit("abcdef", AROUND + 6, tokenizer).cut


def test_the_middle_goes_until_the_whole_prompt_fits_exactly(tokenizer: Any) -> None:
    fitted = fit("abcdefghij", AROUND + 5, tokenizer)
    assert fitted == Fitted("abcij", 20, 15)
    assert fitted.cut


def test_no_character_is_split(tokenizer: Any) -> None:
    # Each emoji is four tokens: half of 8 holds one, half of 10 or 14 no more.
    assert [fit("😀😁😂🤣", AROUND + room, tokenizer).text for room in (6, 8, 10, 14)] == ["", "😀🤣", "😀🤣", "😀🤣"]
    assert fit("é" * 9, AROUND + 5, tokenizer).text == "éé"


def test_a_question_that_does_not_fit_alone_keeps_no_context(tokenizer: Any) -> None:
    assert fit("abc", AROUND - 2, tokenizer) == Fitted("", AROUND + 3, AROUND)


class Slow:
    """A tokenizer that cannot tell where its tokens lie: two characters a token."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [0] * -(-len(text) // 2)


def test_a_tokenizer_without_offsets_cuts_by_characters() -> None:
    fitted = fit("0123456789" * 10, AROUND + 10, Slow())
    assert fitted.tokens == AROUND + 10
    assert fitted.text == "0123456789" * 2


@settings(deadline=None, max_examples=60)
@given(text=st.text(st.sampled_from("ab é你😀\n"), max_size=60), room=st.integers(0, 40))
def test_what_is_kept_fits_and_is_a_head_and_a_tail_of_the_text(tokenizer: Any, text: str, room: int) -> None:
    fitted = fit(text, AROUND + room, tokenizer)
    assert fitted.tokens <= AROUND + room
    assert fitted.tokens == AROUND + len(fitted.text.encode())
    assert any(text.startswith(fitted.text[:i]) and text.endswith(fitted.text[i:]) for i in range(len(fitted.text) + 1))
    assert fitted.tokens == fitted.tokens_before or fitted.tokens > AROUND + room - 8


def test_chat_messages_are_left_out_in_the_middle_by_pairs() -> None:
    messages = []
    for number in range(10):
        messages.append({"role": "user" if number % 2 == 0 else "assistant", "content": f"turn {number} " + "x" * 40})
    text, starts, ends = history_text(messages)
    roles = tuple(message["role"] for message in messages)
    context = Context(text_id(text), text, 0, starts, ends, ("",) * 10, roles)

    def count(part: Context) -> int:
        return AROUND + len(part.text)

    fitted = fit_messages(context, AROUND + 260, "en", count)
    assert fitted.cut
    assert fitted.tokens <= AROUND + 260
    rest = messages_of(fitted.context)
    assert rest[0] == messages[0]
    assert rest[-1] == messages[-1]
    assert [message["role"] for message in rest] == ["user", "assistant"] * (len(rest) // 2)
    assert fit_messages(context, AROUND + len(text), "en", count).context is context

"""Records know their ids, make each other, and come back from a table as they were."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.records.example import (
    ANSWER,
    CONTEXT,
    JUDGEMENT,
    REASONING,
    Answer,
    Context,
    Judgement,
    from_table,
    to_table,
)

ANSWER_ROW = Answer("q1", 2, "It is 7.", "stop", 90, 5, "default", "k" * 64)


def test_an_answer_and_its_judgement_have_the_same_id() -> None:
    judgement = ANSWER_ROW.judged("helpfulness", 0.5)
    assert ANSWER_ROW.id == judgement.answer_id == ("q1", 2)


def test_a_judgement_says_why_and_from_what() -> None:
    assert ANSWER_ROW.judged("helpfulness", 0.5) == Judgement("q1", 2, "helpfulness", 0.5, None, "{}", ())
    missing = ANSWER_ROW.judged("facts", None, "empty", {"reply": "é", "n": 1}, ["a", "b"])
    assert missing == Judgement("q1", 2, "facts", None, "empty", '{"n":1,"reply":"é"}', ("a", "b"))


def test_evidence_that_is_text_is_taken_as_it_is() -> None:
    assert ANSWER_ROW.judged("consensus", 1.0, evidence='{"samples": 4}').evidence == '{"samples": 4}'


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
integers = st.integers(-(2**31), 2**31 - 1)
scores = st.none() | st.floats(allow_nan=False)
judgements_of_any_text = st.builds(
    Judgement, texts, integers, texts, scores, st.none() | texts, texts, st.tuples(texts, texts)
)


@settings(deadline=None)  # the first conversion is slow
@given(st.lists(judgements_of_any_text))
def test_judgements_come_back_from_a_table(judgements: list[Judgement]) -> None:
    assert from_table(to_table(judgements, JUDGEMENT), Judgement) == judgements


def test_answers_and_contexts_come_back_from_a_table() -> None:
    context = Context("c", "text", 1, (0, 2), (1, 4), ("a", "b"))
    assert from_table(to_table([context], CONTEXT), Context) == [context]
    assert from_table(to_table(iter([ANSWER_ROW]), ANSWER), Answer) == [ANSWER_ROW]


def test_columns_of_reasoning_are_in_tables_with_some_alone() -> None:
    """So tables of models that do not think, and their bytes, are as before these columns; and old tables are read."""
    thought = replace(ANSWER_ROW, reasoning="It says 7.", reasoning_tokens=3)
    hidden = replace(ANSWER_ROW, reasoning_tokens=2)  # a server that sends the count alone
    without = to_table([ANSWER_ROW, ANSWER_ROW], ANSWER)
    assert without.column_names == [name for name in ANSWER.names if name not in (*REASONING, "seen")]
    assert from_table(without, Answer) == [ANSWER_ROW, ANSWER_ROW]
    for row in (thought, hidden):
        table = to_table([ANSWER_ROW, row], ANSWER)
        assert list(table.schema) == [field for field in ANSWER if field.name != "seen"]
        assert from_table(table, Answer) == [ANSWER_ROW, row]
    assert to_table([], ANSWER).column_names == without.column_names
    assert (thought.answer_tokens, hidden.answer_tokens, ANSWER_ROW.answer_tokens) == (2, 3, 5)


def test_a_table_of_contexts_has_roles_only_where_one_is_chat_messages() -> None:
    text = Context("a", "one text", 2, (0,), (8,), ("T",))
    chat = Context("b", "one two", 2, (0, 4), (3, 7), ("", ""), ("user", "assistant"))
    assert "span_roles" not in to_table([text], CONTEXT).schema.names
    table = to_table([text, chat], CONTEXT)
    assert from_table(table, Context) == [text, chat]
    assert from_table(to_table([text], CONTEXT), Context) == [text]

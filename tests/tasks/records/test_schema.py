"""The Arrow schemas on disk are exactly these, whatever the Python classes that they are derived from look like."""

from typing import TypedDict

import pyarrow as pa
import pytest

from tasks.records.dataset import CASCADE_COLUMNS, EVIDENCE, PAIRS, SAMPLER_COLUMNS, TOOLS, published_schema
from tasks.records.example import ANSWER, CONTEXT, DROP, EXAMPLE, JUDGEMENT, PAIR
from tasks.records.schema import schema_of

TEXT = pa.string()
TEXTS = pa.list_(pa.string())
MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string(), False), pa.field("content", pa.string(), False)]))
SCORES = pa.list_(pa.struct([pa.field("scorer", pa.string(), False), pa.field("score", pa.float64())]))
JUDGEMENTS = pa.list_(
    pa.struct(
        [
            pa.field("scorer", pa.string(), False),
            pa.field("score", pa.float64()),
            pa.field("reason", pa.string()),
            pa.field("evidence", pa.string(), False),
            pa.field("keys", pa.list_(pa.string()), False),
        ]
    )
)

SCHEMAS = [
    (
        "example",
        EXAMPLE,
        pa.schema(
            [
                pa.field("example_id", TEXT, False),
                pa.field("question", TEXT, False),
                pa.field("context_id", TEXT, False),
                pa.field("references", TEXTS, False),
                pa.field("kind", TEXT, False),
                pa.field("language", TEXT, False),
                pa.field("metadata", TEXT, False),
                pa.field("evidence_starts", pa.list_(pa.int32())),  # these three are left out where no row has any
                pa.field("evidence_ends", pa.list_(pa.int32())),
                pa.field("whole_prompt_tokens", pa.int32()),
            ]
        ),
    ),
    (
        "context",
        CONTEXT,
        pa.schema(
            [
                pa.field("context_id", TEXT, False),
                pa.field("text", TEXT, False),
                pa.field("tokens", pa.int32(), False),
                pa.field("span_starts", pa.list_(pa.int32()), False),
                pa.field("span_ends", pa.list_(pa.int32()), False),
                pa.field("span_titles", TEXTS, False),
                pa.field("span_roles", TEXTS),
                pa.field("tool_use", TEXT),
            ]
        ),
    ),
    (
        "answer",
        ANSWER,
        pa.schema(
            [
                pa.field("example_id", TEXT, False),
                pa.field("sample_index", pa.int32(), False),
                pa.field("text", TEXT, False),
                pa.field("finish_reason", TEXT, False),
                pa.field("prompt_tokens", pa.int32(), False),
                pa.field("completion_tokens", pa.int32(), False),
                pa.field("strategy", TEXT, False),
                pa.field("key", TEXT, False),
                pa.field("reasoning", TEXT),  # left out where no row of a table has any
                pa.field("reasoning_tokens", pa.int32()),
                pa.field("seen", TEXT),  # and this
            ]
        ),
    ),
    (
        "judgement",
        JUDGEMENT,
        pa.schema(
            [
                pa.field("example_id", TEXT, False),
                pa.field("sample_index", pa.int32(), False),
                pa.field("scorer", TEXT, False),
                pa.field("score", pa.float64(), True),
                pa.field("reason", TEXT, True),
                pa.field("evidence", TEXT, False),
                pa.field("keys", TEXTS, False),
            ]
        ),
    ),
    (
        "pair",
        PAIR,
        pa.schema(
            [
                pa.field("example_id", TEXT, False),
                pa.field("context_id", TEXT, False),
                pa.field("chosen_index", pa.int32(), False),
                pa.field("rejected_index", pa.int32(), False),
                pa.field("chosen_reward", pa.float64(), False),
                pa.field("rejected_reward", pa.float64(), False),
                pa.field("margin", pa.float64(), False),
            ]
        ),
    ),
    (
        "drop",
        DROP,
        pa.schema(
            [
                pa.field("example_id", TEXT, False),
                pa.field("stage", TEXT, False),
                pa.field("reason", TEXT, False),
                pa.field("detail", TEXT, False),
            ]
        ),
    ),
    (
        "pairs",
        published_schema(PAIRS, with_reasoning=False),
        pa.schema(
            [
                pa.field("prompt", MESSAGES, False),
                pa.field("chosen", MESSAGES, False),
                pa.field("rejected", MESSAGES, False),
                pa.field("example_id", pa.string(), False),
                pa.field("context_id", pa.string(), False),
                pa.field("question", pa.string(), False),
                pa.field("references", pa.list_(pa.string()), False),
                pa.field("kind", pa.string(), False),
                pa.field("language", pa.string(), False),
                pa.field("chosen_index", pa.int32(), False),
                pa.field("rejected_index", pa.int32(), False),
                pa.field("chosen_reward", pa.float64(), False),
                pa.field("rejected_reward", pa.float64(), False),
                pa.field("margin", pa.float64(), False),
                pa.field("chosen_scores", SCORES, False),
                pa.field("rejected_scores", SCORES, False),
                pa.field("strategy", pa.string(), False),
                pa.field("model", pa.string(), False),
                pa.field("revision", pa.string(), False),
                pa.field("prompt_tokens", pa.int32(), False),
                pa.field("chosen_tokens", pa.int32(), False),
                pa.field("rejected_tokens", pa.int32(), False),
                pa.field("plan_id", pa.string(), False),
            ]
        ),
    ),
    (
        "evidence",
        published_schema(EVIDENCE, with_reasoning=False),
        pa.schema(
            [
                pa.field("example_id", pa.string(), False),
                pa.field("context_id", pa.string(), False),
                pa.field("question", pa.string(), False),
                pa.field("references", pa.list_(pa.string()), False),
                pa.field("kind", pa.string(), False),
                pa.field("language", pa.string(), False),
                pa.field("sample_index", pa.int32(), False),
                pa.field("text", pa.string(), False),
                pa.field("finish_reason", pa.string(), False),
                pa.field("prompt_tokens", pa.int32(), False),
                pa.field("completion_tokens", pa.int32(), False),
                pa.field("strategy", pa.string(), False),
                pa.field("reward", pa.float64()),
                pa.field("judgements", JUDGEMENTS, False),
                pa.field("is_chosen", pa.bool_(), False),
                pa.field("is_rejected", pa.bool_(), False),
                pa.field("ledger_key", pa.string(), False),
                pa.field("plan_id", pa.string(), False),
            ]
        ),
    ),
]


@pytest.mark.parametrize(("schema", "literal"), [case[1:] for case in SCHEMAS], ids=[case[0] for case in SCHEMAS])
def test_the_schema_on_disk_is_this_one(schema: pa.Schema, literal: pa.Schema) -> None:
    assert schema.equals(literal, check_metadata=True)
    assert str(schema) == str(literal)
    assert [field.nullable for field in schema] == [field.nullable for field in literal]


class Strange(TypedDict):
    sizes: dict[str, int]


class Undecided(TypedDict):
    size: int | str | None


@pytest.mark.parametrize(("record", "name"), [(Strange, "sizes"), (Undecided, "size")])
def test_a_field_without_an_arrow_type_is_named(record: type, name: str) -> None:
    with pytest.raises(TypeError, match=f"{name}: .*has no "):
        schema_of(record)


def test_datasets_of_models_that_think_have_further_columns() -> None:
    assert list(PAIRS)[:-8] == list(published_schema(PAIRS, with_reasoning=False))
    assert list(published_schema(PAIRS, with_reasoning=True)) == list(PAIRS)[:-4]
    assert list(PAIRS)[-8:-4] == [
        pa.field("chosen_reasoning", TEXT),
        pa.field("rejected_reasoning", TEXT),
        pa.field("chosen_reasoning_tokens", pa.int32()),
        pa.field("rejected_reasoning_tokens", pa.int32()),
    ]
    assert list(EVIDENCE)[:-5] == list(published_schema(EVIDENCE, with_reasoning=False))
    assert list(EVIDENCE)[-5:-3] == [pa.field("reasoning", TEXT), pa.field("reasoning_tokens", pa.int32())]


def test_datasets_whose_samples_see_different_contexts_have_further_columns() -> None:
    assert PAIRS.field("short_prompt") == pa.field("short_prompt", MESSAGES)
    assert EVIDENCE.field("seen") == pa.field("seen", TEXT)
    assert list(published_schema(PAIRS, True, SAMPLER_COLUMNS | {TOOLS})) == list(PAIRS)[:-2]
    assert TOOLS not in published_schema(PAIRS, True, SAMPLER_COLUMNS).names
    assert list(published_schema(EVIDENCE, True, SAMPLER_COLUMNS)) == list(EVIDENCE)[:-2]


def test_datasets_of_a_cascade_say_by_which_stage_a_reward_came() -> None:
    assert list(PAIRS)[-2:] == [pa.field("chosen_by", TEXT), pa.field("rejected_by", TEXT)]
    assert list(EVIDENCE)[-2:] == [pa.field("reward_by", TEXT), pa.field("expected_reward", pa.float64())]
    assert published_schema(PAIRS, True, SAMPLER_COLUMNS | CASCADE_COLUMNS | {TOOLS}) == PAIRS
    assert published_schema(EVIDENCE, True, SAMPLER_COLUMNS | CASCADE_COLUMNS) == EVIDENCE

"""Key-value retrieval (Liu et al., 2023, "Lost in the Middle"): the value of one key of a long JSON object.

    {"ordered_kv_records": [["key", "value"], ...], "key", "value"}

The context is the object as JSON, a line for each pair; the question comes from `question-key_value.txt`.
"""

import json
from collections.abc import Mapping
from typing import Any

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    fault,
    make_question,
    metadata_of,
    question_text,
    text_field,
)

_REMEDY = "take the file as it is published"
_FIELDS = {"ordered_kv_records", "key", "value"}


def read_kv_retrieval(row: SourceRow, language: str) -> RawQuestion:
    """A row of the key-value files."""
    key, value = text_field(row, "key", required=True) or "", text_field(row, "value", required=True) or ""
    pairs = row.values.get("ordered_kv_records")
    if not isinstance(pairs, (list, tuple)):
        raise fault(row, "ordered_kv_records", "is missing or no list of pairs", _REMEDY)
    lines = []
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise fault(row, "ordered_kv_records", "holds something that is no pair", _REMEDY)
        name, text = (json.dumps(part, ensure_ascii=False) for part in pair)
        lines.append(f" {name}: {text}")
    return make_question(
        None,
        question_text("key_value", language, key=key),
        language,
        context="{\n" + ",\n".join(lines) + "\n}",
        references=[value] if value else [],
        metadata=metadata_of(row, _FIELDS),
    )


def _fits(values: Mapping[str, Any]) -> bool:
    return "ordered_kv_records" in values


FORMAT = QuestionFormat("kv_retrieval", read_kv_retrieval, "key-value retrieval of Lost in the Middle", _fits)

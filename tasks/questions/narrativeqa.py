"""NarrativeQA (Kočiský et al., 2018), the hub's rows: questions about whole stories.

{"document": {"id", "text", "kind"?, "summary"?}, "question": {"text", "tokens"}, "answers": [{"text", "tokens"}]}
"""

from collections.abc import Mapping
from typing import Any

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    fault,
    make_question,
    metadata_of,
    records_field,
)

_FIELDS = {"document", "question", "answers"}


def read_narrativeqa(row: SourceRow, language: str) -> RawQuestion:
    """A row of NarrativeQA. Its id is derived, because the row has only that of the story."""
    references = []
    for answer in records_field(row, "answers"):
        references.append(_text(row, "answers", answer))
    document = row.values.get("document")
    metadata = metadata_of(row, _FIELDS)
    if isinstance(document, Mapping):
        metadata["document"] = document.get("id")
    return make_question(
        None,
        _text(row, "question", row.values.get("question")),
        language,
        context=_text(row, "document", document),
        references=list(dict.fromkeys(references)),
        metadata=metadata,
    )


def _text(row: SourceRow, name: str, value: Any) -> str:
    if not isinstance(value, Mapping) or not isinstance(value.get("text"), str):
        raise fault(row, f"{name}.text", "is missing or no text", "take the rows as NarrativeQA publishes them")
    return str(value["text"])


def _fits(values: Mapping[str, Any]) -> bool:
    parts = (values.get("document"), values.get("question"))
    return all(isinstance(part, Mapping) and "text" in part for part in parts)


FORMAT = QuestionFormat("narrativeqa", read_narrativeqa, "NarrativeQA: questions about whole stories", _fits)

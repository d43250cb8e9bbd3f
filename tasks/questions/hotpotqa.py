"""HotpotQA (Yang et al., 2018), distractor setting, and 2WikiMultihopQA (Ho et al., 2020), in both published shapes.

The original JSON (one array): {"_id", "question", "answer", "type", "level",
    "supporting_facts": [[title, sentence], ...], "context": [[title, [sentence, ...]], ...]}
The hub's columns: {"id", ..., "supporting_facts": {"title": [...], "sent_id": [...]},
    "context": {"title": [...], "sentences": [[...], ...]}}, and "content" in place of "sentences" for 2WikiMultihopQA

A paragraph is a supporting document when a supporting fact names its title. Sentences carry their own spaces.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    fault,
    id_field,
    make_question,
    metadata_of,
    text_field,
)
from tasks.records.example import Document

_FIELDS = {"_id", "id", "question", "answer", "type", "supporting_facts", "context"}
_REMEDY = "take the distractor file as HotpotQA publishes it"


def read_hotpotqa(row: SourceRow, language: str) -> RawQuestion:
    """A row of HotpotQA."""
    supporting = {title for title, _ in _titled(row, "supporting_facts", ("sent_id",))}
    documents: list[Document] = []
    distractors: list[Document] = []
    for title, sentences in _titled(row, "context", ("sentences", "content")):
        paragraph = _paragraph(row, title, sentences)
        if title in supporting:
            documents.append(paragraph)
        else:
            distractors.append(paragraph)
    answer = text_field(row, "answer")
    return make_question(
        id_field(row, "_id", "id"),
        text_field(row, "question", required=True) or "",
        language,
        documents=documents,
        distractors=distractors,
        references=[answer] if answer else [],
        kind=text_field(row, "type") or "",
        metadata=metadata_of(row, _FIELDS),
    )


def _fits(values: Mapping[str, Any]) -> bool:
    return "supporting_facts" in values and "context" in values


FORMAT = QuestionFormat("hotpotqa", read_hotpotqa, "HotpotQA and 2WikiMultihopQA, in both of their shapes", _fits)


def _titled(row: SourceRow, field: str, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """(title, value) from a list of pairs, or from an object with the list "title" and a list of one of the names."""
    value = row.values.get(field)
    if value is None:
        raise fault(row, field, "is missing", _REMEDY)
    if isinstance(value, Mapping):
        titles, others = value.get("title"), None
        for name in names:
            others = value.get(name) if others is None else others
        if not isinstance(titles, list) or not isinstance(others, list) or len(titles) != len(others):
            raise fault(row, field, f"needs the equally long lists 'title' and {names[0]!r}", _REMEDY)
        value = list(zip(titles, others, strict=True))
    if not isinstance(value, list):
        raise fault(row, field, "is neither a list of pairs nor an object of lists", _REMEDY)
    for pair in value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise fault(row, field, "holds something that is not a pair of a title and its part", _REMEDY)
        yield pair[0], pair[1]


def _paragraph(row: SourceRow, title: str, sentences: Any) -> Document:
    if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
        raise fault(row, "context", f"the paragraph {title!r} is not a list of sentences", _REMEDY)
    return Document(title, "".join(sentences))

"""Multi-document question answering JSONL (Liu et al., 2023, "Lost in the Middle").

    {"question", "answers": [...], "ctxs": [{"title", "text", "hasanswer", "isgold"}], "nq_annotated_gold": {...}}

The passages marked `isgold` are the documents, the others the distractors. The rows have no id: it is derived.
"""

from collections.abc import Mapping
from typing import Any

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    document_field,
    id_field,
    make_question,
    metadata_of,
    records_field,
    text_field,
    texts_field,
)
from tasks.records.example import Document

# nq_annotated_gold repeats the gold passage, so it does not go into the metadata
_FIELDS = {"id", "question", "answers", "ctxs", "nq_annotated_gold"}


def read_multidoc_qa(row: SourceRow, language: str) -> RawQuestion:
    """A row of the multi-document files."""
    documents: list[Document] = []
    distractors: list[Document] = []
    for passage in records_field(row, "ctxs", required=True):
        document = document_field(row, "ctxs", passage)
        if passage.get("isgold"):
            documents.append(document)
        else:
            distractors.append(document)
    return make_question(
        id_field(row, "id"),
        text_field(row, "question", required=True) or "",
        language,
        documents=documents,
        distractors=distractors,
        references=texts_field(row, "answers"),
        metadata=metadata_of(row, _FIELDS),
    )


def _fits(values: Mapping[str, Any]) -> bool:
    return "ctxs" in values and "question" in values


FORMAT = QuestionFormat("multidoc_qa", read_multidoc_qa, 'multi-document QA ("Lost in the Middle")', _fits)

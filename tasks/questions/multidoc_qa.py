"""Multi-document question answering JSONL (Liu et al., 2023, "Lost in the Middle").

    {"question", "answers": [...], "ctxs": [{"title", "text", "hasanswer", "isgold"}], "nq_annotated_gold": {...}}

The passages marked `isgold` are the documents, the others the distractors. The rows have no id: it is derived.
"""

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

# nq_annotated_gold repeats the gold passage, so it is left behind
_FIELDS = {"id", "question", "answers", "ctxs", "nq_annotated_gold"}


def read_multidoc_qa(row: SourceRow, language: str) -> RawQuestion:
    """A row of the multi-document files."""
    passages = records_field(row, "ctxs", required=True)
    return make_question(
        id_field(row, "id"),
        text_field(row, "question", required=True) or "",
        language,
        documents=[document_field(row, "ctxs", each) for each in passages if each.get("isgold")],
        distractors=[document_field(row, "ctxs", each) for each in passages if not each.get("isgold")],
        references=texts_field(row, "answers"),
        metadata=metadata_of(row, _FIELDS),
    )


FORMAT = QuestionFormat("multidoc_qa", read_multidoc_qa)

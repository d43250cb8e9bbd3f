"""LongBench (Bai et al., 2023): a question over a ready-made context.

    {"input", "context", "answers", "length", "dataset", "language", "all_classes", "_id"}

The kind is the name of the task. Rows of the summary tasks have no `input`, and rows of the code tasks name a
programming language: both become drops ("empty_question", "language"), because the sampling prompts ask a question in
English or Chinese.
"""

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    id_field,
    make_question,
    metadata_of,
    text_field,
    texts_field,
)

_FIELDS = {"_id", "input", "context", "answers", "dataset", "language"}


def read_longbench(row: SourceRow, language: str) -> RawQuestion:
    """A row of LongBench."""
    return make_question(
        id_field(row, "_id"),
        text_field(row, "input", required=True) or "",
        text_field(row, "language") or language,
        context=text_field(row, "context", required=True),
        references=texts_field(row, "answers"),
        kind=text_field(row, "dataset") or "",
        metadata=metadata_of(row, _FIELDS),
    )


FORMAT = QuestionFormat("longbench", read_longbench)

"""LongBench's code tasks (lcc, repobench-p), which the format `longbench` drops: the next line of code is asked for.

The fields are those of `longbench`. The question is the code right before that line, the suite `longbench` has the
prompt. lcc has no code but the context: its last line is the question.
"""

from collections.abc import Mapping
from typing import Any

from tasks.questions.longbench import CODE_TASKS, FIELDS
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
from tasks.records.example import Drop


def read_longbench_code(row: SourceRow, language: str) -> RawQuestion | Drop:
    """A row of LongBench's code tasks; a row of another task is a drop "no_code"."""
    task = text_field(row, "dataset") or ""
    context, code = text_field(row, "context", required=True) or "", text_field(row, "input") or ""
    if not code.strip():
        before, newline, last = context.rstrip("\n").rpartition("\n")
        context, code = before + newline, last + "\n"
    question = make_question(
        id_field(row, "_id"),
        code,
        language,  # a row names the programming language
        context=context,
        references=texts_field(row, "answers"),
        kind=task,
        metadata=metadata_of(row, FIELDS),
    )
    if task.removesuffix("_e") not in CODE_TASKS:
        return Drop(question.example_id, "read", "no_code", f"row {row.number}: {task} is no code task of LongBench's")
    return question


def _fits(values: Mapping[str, Any]) -> bool:
    return (
        str(values.get("dataset", "")).removesuffix("_e") in CODE_TASKS and "answers" in values and "context" in values
    )


FORMAT = QuestionFormat("longbench_code", read_longbench_code, "LongBench's code tasks: the next line", _fits)

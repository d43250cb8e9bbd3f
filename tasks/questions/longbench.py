"""LongBench (Bai et al., 2023): a question over a ready-made context.

    {"input", "context", "answers", "length", "dataset", "language", "all_classes", "_id"}

The kind is the name of the task. The input of most tasks is the question. Tasks whose input is none get one from a
prompt file, as LongBench's own prompts do: summaries (`question-summary.txt`), few-shot tasks, whose context holds
examples (`question-case.txt`), counting and finding a paragraph (`question-passage_count.txt`,
`question-passage_of_abstract.txt`). Rows of the code tasks (lcc, repobench-p) are drops ("code"): they want code to be
completed, and the sampling prompts ask a question in English or Chinese.
"""

from collections.abc import Mapping
from typing import Any

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    id_field,
    make_question,
    metadata_of,
    question_text,
    text_field,
    texts_field,
)
from tasks.records.example import Drop

FIELDS = {"_id", "input", "context", "answers", "dataset", "language"}
_SUMMARIES = {"gov_report", "multi_news", "vcsum"}
_FEW_SHOT = {"trec", "triviaqa", "samsum", "lsht"}
CODE_TASKS = {"lcc", "repobench-p"}
_ABSTRACTS = {"passage_retrieval_en", "passage_retrieval_zh"}


def read_longbench(row: SourceRow, language: str) -> RawQuestion | Drop:
    """A row of LongBench, or of LongBench-E."""
    task = text_field(row, "dataset") or ""
    language = text_field(row, "language") or language
    question = make_question(
        id_field(row, "_id"),
        _question(task.removesuffix("_e"), text_field(row, "input", required=True) or "", language),
        language,
        context=text_field(row, "context", required=True),
        references=texts_field(row, "answers"),
        kind=task,
        metadata=metadata_of(row, FIELDS),
    )
    if task.removesuffix("_e") in CODE_TASKS:
        detail = f"row {row.number}: LongBench's {task} completes code and asks no question; take its other tasks"
        return Drop(question.example_id, "read", "code", detail)
    return question


def _question(task: str, text: str, language: str) -> str:
    if task in _SUMMARIES and not text.strip():
        return question_text("summary", language)
    if task == "passage_count":
        return question_text("passage_count", language)
    if task in _FEW_SHOT and text.strip():
        return question_text("case", language, case=text.strip())
    if task in _ABSTRACTS and text.strip():
        return question_text("passage_of_abstract", language, abstract=text.strip())
    return text


def _fits(values: Mapping[str, Any]) -> bool:
    return {"input", "context", "answers", "dataset"} <= values.keys()


FORMAT = QuestionFormat("longbench", read_longbench, "LongBench and LongBench-E, all tasks but code", _fits)

"""L-Eval (An et al., 2023): a document with several instructions and their answers in one row.

    {"instructions": ["..."], "outputs": ["..."], "input": "the document", "evaluation": "exam", "source"?}

Every instruction becomes a question. Options "(A) ... (B) ..." at the end of an instruction make it a multiple-choice
question when its answer begins with such a letter. The kind is the row's `evaluation`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.choices import LETTERS
from tasks.questions.choices import make_choice_question
from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    fault,
    language_of,
    make_question,
    metadata_of,
    text_field,
    texts_field,
)
from tasks.records.example import Drop

_FIELDS = {"instructions", "outputs", "input", "instruction", "output", "evaluation", "language"}
_OPTION = re.compile(r"\n\s*\(([A-Z])\)\s+")
_LETTER = re.compile(r"\s*\(?([A-Z])\)")


def rows_of_leval(row: SourceRow) -> Iterator[SourceRow]:
    """A row for each instruction, with its answer."""
    instructions, outputs = texts_field(row, "instructions"), texts_field(row, "outputs")
    if not instructions or len(instructions) != len(outputs):
        problem = f"{len(instructions)} instructions have {len(outputs)} outputs"
        raise fault(row, "instructions", problem, "give as many outputs as instructions, as L-Eval has them")
    for instruction, output in zip(instructions, outputs, strict=True):
        values = {**row.values, "instruction": instruction, "output": output}
        yield SourceRow(row.file, row.number, values)


def read_leval(row: SourceRow, language: str) -> RawQuestion | Drop:
    """One instruction of a row of L-Eval, as `rows_of_leval` gives it."""
    instruction = text_field(row, "instruction", required=True) or ""
    output = text_field(row, "output") or ""
    context = text_field(row, "input", required=True)
    kind, metadata = text_field(row, "evaluation") or "", metadata_of(row, _FIELDS)
    language = language_of(row, instruction, language)
    question, options = _options(instruction)
    letter = _LETTER.match(output)
    if options and letter:
        if kind:
            metadata["kind"] = kind
        answers = [letter.group(1)]
        return make_choice_question(row, None, question, options, answers, language, context=context, metadata=metadata)
    references = [output.strip()] if output.strip() else []
    return make_question(
        None, instruction.strip(), language, context=context, references=references, kind=kind, metadata=metadata
    )


def _options(instruction: str) -> tuple[str, list[str]]:
    """The question, and the options that follow it as "(A) ...", "(B) ..." in this order; none otherwise."""
    question, *parts = _OPTION.split(instruction)
    letters, options = parts[::2], [" ".join(text.split()) for text in parts[1::2]]
    if len(options) < 2 or "".join(letters) != LETTERS[: len(letters)]:
        return instruction, []
    return question.strip(), options


def _fits(values: Mapping[str, Any]) -> bool:
    return {"instructions", "outputs", "input"} <= values.keys()


FORMAT = QuestionFormat("leval", read_leval, "L-Eval: several instructions for one document", _fits, rows_of_leval)

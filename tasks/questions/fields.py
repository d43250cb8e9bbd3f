"""Rows whose fields the recipe names (`questions.fields`): a reader for formats that have no file here.

A path is looked up from the row: names of objects, numbers (from 0) of lists, and `*` for all members of a list. A
name that holds dots itself is found too. Question and context must be there; the other parts may be absent in a row.
What the paths do not name does not go into the metadata: it may be as long as the context.
"""

import re
from collections.abc import Mapping
from typing import Any

from infra.recipe.fields import QuestionFields
from tasks.questions.choices import checked_options, make_choice_question
from tasks.questions.question import (
    Adapter,
    RawQuestion,
    SourceRow,
    answers_field,
    fault,
    id_field,
    make_question,
    text_field,
)
from tasks.records.example import Drop

_PLACE = re.compile(r"\{([^{}\s]+)\}")


def read_by_fields(fields: QuestionFields) -> Adapter:
    """The reader of rows with these fields. It raises InputError for a path that leads nowhere."""

    def read(row: SourceRow, language: str) -> RawQuestion | Drop:
        context = _text(row, fields.context, "context")
        question = _text(row, fields.question, "question") if fields.question else ""
        if fields.separator is not None:
            context, separator, question = context.rpartition(fields.separator)
            if not separator:
                detail = f"row {row.number} does not hold questions.fields.separator"
                return Drop(f"row-{row.number}", "read", "no_separator", detail)
        if not question.strip() and fields.template:
            question = _PLACE.sub(lambda match: _text(row, match.group(1), "template"), fields.template)
        parts = _part_row(row, fields)
        question_id, answers = id_field(parts, "id"), answers_field(parts, "answers")
        language = text_field(parts, "language") or language
        kind, question = text_field(parts, "kind") or "", question.strip()
        options = _options(row, fields)
        if options:
            metadata = {"kind": kind} if kind else {}
            return make_choice_question(
                row, question_id, question, options, answers, language, context=context, metadata=metadata
            )
        return make_question(question_id, question, language, context=context, references=answers, kind=kind)

    return read


def values_at(values: Any, path: str) -> list[Any]:
    """All values that a path leads to in a row, null left out; none where it leads nowhere."""
    if isinstance(values, Mapping) and path in values:
        return [] if values[path] is None else [values[path]]
    name, _, rest = path.partition(".")
    if isinstance(values, Mapping):
        members = [values[name]] if name in values else []
    elif isinstance(values, (list, tuple)) and name == "*":
        members = list(values)
    elif isinstance(values, (list, tuple)) and name.isdecimal():
        members = list(values[int(name) : int(name) + 1])
    else:
        members = []
    results = []
    for member in members:
        if rest:
            results += values_at(member, rest)
        elif member is not None:
            results.append(member)
    return results


def _text(row: SourceRow, path: str, use: str) -> str:
    """The text at a path; several are joined by blank lines. Null is an empty text."""
    if path.partition(".")[0] not in row.values and path not in row.values:
        names = ", ".join(sorted(map(str, row.values))[:12])
        raise fault(row, path, f"is missing, but questions.fields takes the {use} from it", f"the row has {names}")
    texts = []
    for value in values_at(row.values, path):
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            remedy = "add the rest of the path, as in `question.text` or `parts.*.text`"
            raise fault(row, path, f"holds {type(value).__name__} instead of text", remedy)
        texts.append(str(value))
    return "\n\n".join(texts)


def _part_row(row: SourceRow, fields: QuestionFields) -> SourceRow:
    """The row's other parts under the names of `questions.fields`."""
    parts: dict[str, Any] = {}
    paths = {"answers": fields.answers, "id": fields.id, "kind": fields.kind, "language": fields.language}
    for name, path in paths.items():
        values = values_at(row.values, path) if path else []
        if len(values) == 1:
            parts[name] = values[0]
        elif values:
            parts[name] = values
    return SourceRow(row.file, row.number, parts)


def _options(row: SourceRow, fields: QuestionFields) -> tuple[str, ...]:
    if fields.choices is None:
        return ()
    if isinstance(fields.choices, str):
        values = values_at(row.values, fields.choices)
        value = values[0] if len(values) == 1 else values
    else:
        value = [_text(row, path, "choices") for path in fields.choices]
    return checked_options(row, "choices", value) if value else ()

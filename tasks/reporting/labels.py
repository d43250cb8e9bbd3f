"""People's labels: which of two answers of a question somebody prefers.

A row is {"example_id": ..., "first": sample index, "second": sample index, "preferred": "first" | "second"}, in JSONL
or Parquet. Each row counts, so that two people who judge the same pair are two labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.errors import InputError
from tasks.questions.question import SourceRow
from tasks.questions.rows import read_rows
from tasks.reporting.agreement import Preference
from tasks.reporting.judged import JudgedQuestion

_REMEDY = 'write rows as {"example_id": "q1", "first": 0, "second": 3, "preferred": "first"}'


@dataclass(frozen=True, slots=True)
class Label:
    """One row: where it stands, for messages, and what it says."""

    place: str
    preference: Preference


Labels = Mapping[str, list[Label]]  # by example id


def read_labels(source: str) -> Labels:
    """The labels of a file. Raises InputError naming file, row, field and remedy at the first row that is no label."""
    labels: dict[str, list[Label]] = {}
    for row in read_rows(source):
        example_id, label = _label(row)
        labels.setdefault(example_id, []).append(label)
    return labels


def labelled(question: JudgedQuestion, labels: Labels) -> tuple[list[Preference], list[str]]:
    """The labels of a question whose answers are there, and the places of those whose answers are not."""
    known = {answer.index for answer in question.answers}
    own = labels.get(question.example.example_id, [])
    there = [each for each in own if {each.preference.better, each.preference.worse} <= known]
    return [each.preference for each in there], [each.place for each in own if each not in there]


def _label(row: SourceRow) -> tuple[str, Label]:
    place = f"{row.file}, row {row.number}"
    example_id = row.values.get("example_id")
    if not isinstance(example_id, str) or not example_id:
        raise InputError(f"{place}: example_id is {_shown(example_id)}, not a text; {_REMEDY}")
    first, second = (_index(row, place, field) for field in ("first", "second"))
    if first == second:
        raise InputError(f"{place}: first and second are both {first}; an answer is not preferred to itself")
    preferred = row.values.get("preferred")
    if preferred not in ("first", "second"):
        raise InputError(f'{place}: preferred is {_shown(preferred)}, neither "first" nor "second"; {_REMEDY}')
    better, worse = (first, second) if preferred == "first" else (second, first)
    return example_id, Label(place, Preference(better, worse))


def _index(row: SourceRow, place: str, field: str) -> int:
    value = row.values.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{place}: {field} is {_shown(value)}, not the index of a sample (0, 1, ...); {_REMEDY}")
    return value


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:60]

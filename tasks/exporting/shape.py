"""What a shape is, the registry of shapes, and the pieces that several of them are made of."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from infra.errors import InputError
from infra.models.tool_calls import json_text
from infra.plugins import find_plugins
from tasks.records.dataset import TOOLS

Unit = Literal["pairs", "answers", "questions"]
Row = dict[str, Any]
Pairs = Sequence[Mapping[str, Any]]  # the pairs of one question, as rows of the dataset's `pairs`


@dataclass(slots=True)
class Converted:
    """The rows of one question's pairs, and the units that could not be taken, by reason."""

    rows: list[Row] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class ExportedSplits:
    """What an export has, for the files beside the rows: the dataset's name, and by split the name of its file."""

    name: str
    files: Mapping[str, str]
    with_tools: bool = False


def _no_files(exported: ExportedSplits) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape of data.

    `convert` makes the rows of one question; `schema` gives their Parquet schema from the dataset's, None means JSON
    lines. `takes_tools`: it has a place for the tools of a prompt; without one such pairs are left out, for without
    its tools a prompt is another one. `beside` makes the small files that the trainer needs, by name.
    """

    name: str
    about: str
    unit: Unit
    convert: Callable[[Pairs, str], Converted]  # of the pairs of a question, and the split
    schema: Callable[[pa.Schema], pa.Schema] | None = None
    takes_tools: bool = False
    beside: Callable[[ExportedSplits], Mapping[str, str]] = _no_files

    @property
    def ending(self) -> str:
        """Of the files with rows."""
        return "jsonl" if self.schema is None else "parquet"

    def units(self, pairs: Pairs) -> int:
        """How many units the pairs of a question are."""
        return {"pairs": len(pairs), "answers": 2 * len(pairs), "questions": 1}[self.unit]


def all_shapes() -> dict[str, Shape]:
    """The shapes by name."""
    return find_plugins("tasks.exporting.shapes", "SHAPE")


def find_shape(name: str) -> Shape:
    """The shape of this name. Raises InputError with all names where there is none."""
    shapes = all_shapes()
    if name not in shapes:
        raise InputError(f"{name}: no such shape; there are {', '.join(shapes)} (`longmill export` says what they are)")
    return shapes[name]


def each_pair(make: Callable[[Mapping[str, Any]], Row | str]) -> Callable[[Pairs, str], Converted]:
    """The `convert` of a shape that makes of every pair a row, or the reason why it cannot."""

    def convert(pairs: Pairs, split: str) -> Converted:
        converted = Converted()
        for pair in pairs:
            row = make(pair)
            if isinstance(row, str):
                converted.left_out[row] += 1
            else:
                converted.rows.append(row)
        return converted

    return convert


def of_columns(name: str, about: str, *columns: str) -> Shape:
    """A shape of pairs whose rows are some columns of the dataset as they are, those that it has."""

    def row(pair: Mapping[str, Any]) -> Row:
        return {column: pair[column] for column in columns if column in pair}

    def schema(source: pa.Schema) -> pa.Schema:
        return pa.schema(fields_of(source, *columns))

    return Shape(name, about, "pairs", each_pair(row), schema, takes_tools=TOOLS in columns)


def plain_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages without the fields that are empty in them."""
    plain = []
    for message in messages:
        plain.append({name: value for name, value in message.items() if value is not None})
    return plain


def tools_text(pair: Mapping[str, Any]) -> str | None:
    """The tools of a pair's prompt as a JSON list in a text; None where it has none."""
    tools = pair.get(TOOLS)
    return json_text(tools) if tools else None


def calls_tools(pair: Mapping[str, Any]) -> bool:
    """Whether the prompt of a pair has tools, calls of them or their results."""
    if pair.get(TOOLS):
        return True
    return any(message.get("tool_calls") or message["role"] == "tool" for message in pair["prompt"])


def fields_of(source: pa.Schema, *names: str) -> list[pa.Field]:
    """The fields of a dataset with these names, those that it has."""
    return [source.field(name) for name in names if name in source.names]

"""A list of pairs, questions or drops: filtered, sorted, a page of it. What is asked for is in the page's URL.

A search is for a text, not a pattern, without regard to case. A filter on a score leaves out the rows without one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.viewing.columns import DIFFERENCE, IN_ANSWERS

PAGE_ROWS = 50
_MOST_CHARACTERS = 200  # of a filter's value

# What a list can be sorted by: the name in the URL, and the words for people. "dimension" is that of the filter.
PAIR_ORDERS = {
    "margin": "margin",
    "dimension": "difference in the dimension",
    "prompt_tokens": "prompt length",
    "chosen_tokens": "chosen answer's length",
    "longer": "chosen longer than rejected",
}
QUESTION_ORDERS = {"difficulty": "difficulty"}


@dataclass(frozen=True, slots=True)
class Query:
    """What a list is asked for. Texts are "" and numbers None where nothing is asked."""

    q: str = ""
    answer: str = ""  # a text in an answer of the pair
    kind: str = ""
    language: str = ""
    split: str = ""
    reason: str = ""
    stage: str = ""
    dimension: str = ""
    dimension_min: float | None = field(default=None)  # of chosen less rejected
    dimension_max: float | None = field(default=None)
    margin_min: float | None = field(default=None)
    margin_max: float | None = field(default=None)
    tokens_min: float | None = field(default=None)  # of the prompt
    tokens_max: float | None = field(default=None)
    difficulty_min: float | None = field(default=None)
    difficulty_max: float | None = field(default=None)
    sort: str = ""  # the dataset's order where it is ""
    order: str = ""  # "up", or down where it is ""

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> "Query":
        """The query of a URL. What is no number, or is too long, is left out: a URL is written by people."""
        parsed: dict[str, Any] = {}
        for part in fields(cls):
            value = values.get(part.name, "").strip()[:_MOST_CHARACTERS]
            if part.default is not None:
                parsed[part.name] = value
            elif value:
                parsed[part.name] = _number(value)
        return cls(**parsed)

    def words(self) -> str:
        """The query as the part of a URL behind the question mark, without what is not asked."""
        return urlencode(dict(self.parts()))

    def parts(self) -> Iterator[tuple[str, str]]:
        """(name, value) of what is asked."""
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, float):
                yield part.name, f"{value:g}"
            elif value:
                yield part.name, value

    @property
    def has_ranges(self) -> bool:
        """Whether something is asked of numbers, or of a dimension."""
        return bool(self.dimension) or any(isinstance(getattr(self, part.name), float) for part in fields(self))

    @property
    def all_rows(self) -> bool:
        """Whether the first page needs all rows: not where rows come as they are in the dataset."""
        return any(True for _ in self.parts())


def positions(table: pa.Table, query: Query) -> np.ndarray:
    """The places in the table of the rows that are asked for, in the order asked for (stable; nulls last)."""
    mask = None
    for condition in _conditions(table, query):
        mask = condition if mask is None else pc.and_kleene(mask, condition)
    if mask is None:
        places = np.arange(table.num_rows)
    else:
        places = pc.indices_nonzero(mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask).to_numpy()
    column = _sort_column(table, query)
    if column is None or not len(places):
        return places
    values = table.column(column).take(pa.array(places))
    direction = "ascending" if query.order == "up" else "descending"
    order = pc.sort_indices(pa.table({"value": values}), [("value", direction)]).to_numpy()
    sorted_positions: np.ndarray = places[order]
    return sorted_positions


def rows_at(table: pa.Table, places: np.ndarray) -> list[dict[str, Any]]:
    """The rows at some places of an index."""
    rows: list[dict[str, Any]] = []
    for place in places.tolist():
        rows += table.slice(place, 1).to_pylist()
    return rows


def _conditions(table: pa.Table, query: Query) -> Iterator[pa.ChunkedArray]:
    names = set(table.schema.names)
    for name in ("kind", "language", "split", "reason", "stage"):
        value = getattr(query, name)
        if value and name in names:
            yield pc.equal(table.column(name), value)
    if query.q:
        yield pc.match_substring(table.column("searched"), query.q.lower())
    if IN_ANSWERS in names:
        yield table.column(IN_ANSWERS)
    ranges = [
        ("margin", query.margin_min, query.margin_max),
        ("prompt_tokens", query.tokens_min, query.tokens_max),
        ("difficulty", query.difficulty_min, query.difficulty_max),
        (DIFFERENCE + query.dimension, query.dimension_min, query.dimension_max),
    ]
    for name, least, most in ranges:
        if name not in names:
            continue
        if least is not None:
            yield pc.fill_null(pc.greater_equal(table.column(name), least), False)
        if most is not None:
            yield pc.fill_null(pc.less_equal(table.column(name), most), False)


def _sort_column(table: pa.Table, query: Query) -> str | None:
    if query.sort == "dimension":
        column = DIFFERENCE + query.dimension
    else:
        column = query.sort if query.sort in (*PAIR_ORDERS, *QUESTION_ORDERS) else ""
    return column if column in table.schema.names else None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if np.isfinite(number) else None

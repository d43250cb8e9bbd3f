"""Which row of a dataset a page is about: by its place in the list of the URL's query, or by its question's id."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from infra.errors import MissingError
from tasks.viewing.library import LOOKUP_S, ViewedDataset
from tasks.viewing.listing import Query, positions, rows_at


def place_of(
    dataset: ViewedDataset, config: str, query: Query, values: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The row of the index that a URL names, and the queries of the rows before and after it in the list."""
    rows = dataset.index(config).rows
    digits = values.get("n", "")
    if not (digits.isdecimal() and len(digits) < 10):
        places = dataset.places(config, values.get("id", ""))
        number = values.get("number", "1")
        position = int(number) - 1 if number.isdecimal() and len(number) < 10 else 0
        if not 0 <= position < len(places):
            raise MissingError(f"{dataset.name}: no {config.removesuffix('s')} of {values.get('id', '')!r}")
        return places[position], {}
    position = int(digits)
    table, _ = dataset.table(config, query, rows if query.all_rows else position + 1, LOOKUP_S)
    count = 0
    if table is not None:
        places_in_order = positions(table, query)
        count = len(places_in_order)
    if table is None or position >= count:
        raise MissingError(f"{dataset.name}: this list has {count:,} rows and no row {position + 1:,}")
    (place,) = rows_at(table, places_in_order[position : position + 1])
    total = count if query.all_rows else rows
    around = {"list": query.words(), "position": f"{position + 1:,} of {total:,}"}
    if position > 0:
        around["previous"] = urlencode([*query.parts(), ("n", position - 1)])
    if position + 1 < total:
        around["next"] = urlencode([*query.parts(), ("n", position + 1)])
    return place, around

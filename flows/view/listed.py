"""The pages that list: pairs, questions or drops of a dataset, and two datasets beside each other."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request

from flows.view.rendering import page
from tasks.records.product import PAIRS
from tasks.viewing.comparison import LIMIT, compared_questions
from tasks.viewing.library import DROPS, Library, ViewedDataset
from tasks.viewing.listing import PAGE_ROWS, PAIR_ORDERS, QUESTION_ORDERS, Query, positions, rows_at

_FIRST_S = 20.0  # that a list waits for its first rows
_ALL_S = 1.0  # that a list which needs all rows waits for them; then it shows what there is, and says so


def list_page(library: Library, request: Request, config: str) -> str:
    """A page of the list of a configuration."""
    dataset = library.dataset(request.path_params["version"])
    query = Query.parse(request.query_params)
    number = _page_number(request.query_params)
    index = dataset.index(config)
    start = (number - 1) * PAGE_ROWS
    table, whole = dataset.table(config, query, start + PAGE_ROWS, _FIRST_S)
    if query.all_rows:
        table, whole = dataset.table(config, query, index.rows, _ALL_S)
    if table is None:
        rows, count = [], 0
    else:
        places = positions(table, query)
        rows = rows_at(table, places[start : start + PAGE_ROWS])
        count = len(places) if query.all_rows else index.rows
    offered = {name: index.choices(name) for name in ("kind", "language", "split", "reason", "stage")}
    orders = {PAIRS.name: PAIR_ORDERS, DROPS: {}}.get(config, QUESTION_ORDERS)
    return page(
        "list",
        dataset=dataset,
        config=config,
        query=query,
        words=query.words(),
        rows=rows,
        count=count,
        start=start,
        total=index.rows,
        read=table.num_rows if table else 0,
        complete=whole or (len(rows) == PAGE_ROWS and not query.all_rows),
        offered=offered,
        orders=orders,
        number=number,
        pages=max(1, -(-count // PAGE_ROWS)),
        link=lambda position: _with(query, page=position),
        opened=lambda place: _with(query, n=place),
    )


def compare_page(library: Library, request: Request) -> str:
    """Two datasets: the questions of both, those on which they disagree first."""
    entries = library.entries()
    versions = [request.query_params.get(side, "") for side in ("a", "b")]
    only = request.query_params.get("only", "")
    datasets: list[ViewedDataset] = []
    outcome: dict[str, Any] = {}
    if all(versions):
        datasets = [library.dataset(version) for version in versions]
        outcome = compared_questions(datasets[0], datasets[1], only)
    return page(
        "compare", entries=entries, versions=versions, datasets=datasets, outcome=outcome, only=only, limit=LIMIT
    )


def _page_number(values: Mapping[str, str]) -> int:
    digits = values.get("page", "1")
    return max(1, int(digits)) if digits.isdecimal() and len(digits) < 10 else 1


def _with(query: Query, **more: int) -> str:
    """The part of a URL behind the question mark: the query, and something more."""
    return urlencode([*query.parts(), *((name, str(value)) for name, value in more.items())])

"""Tables of a cascade, as (columns, rows) of strings: see `tables.py`."""

from collections.abc import Mapping
from typing import Any

from tasks.reporting.tables import NOTHING, Rows


def choice_rows(view: Mapping[str, Any]) -> Rows:
    """What each agreement would cost; the recipe's own is marked."""
    rows = []
    for choice in view["choices"]:
        marked = f"{choice['agreement']:g}" + (" (the recipe's)" if choice["agreement"] == view["wanted"] else "")
        threshold = "never enough: all is judged" if choice["threshold"] is None else f"{choice['threshold']:g}"
        shares = [choice["measured"], choice["answers"], choice["asked"]]
        rows.append([marked, threshold, *(percent(share) for share in shares)])
    return ["agreement", "confidence", "as the judge %", "answers judged %", "questions with one %"], rows


def percent(share: float | None) -> str:
    """A share as a percentage with a decimal."""
    return NOTHING if share is None else f"{100 * share:.1f}"

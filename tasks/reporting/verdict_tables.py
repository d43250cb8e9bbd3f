"""Tables of verdicts on facts beside the judge's own, as (columns, rows) of strings: see `tables.py`."""

from collections.abc import Mapping
from typing import Any

from tasks.reporting.tables import NOTHING, Rows


def control_rows(judging: Mapping[str, Any]) -> Rows:
    """The control sample: verdicts beside those that the judge gave on the same facts alone, by the way they came."""
    columns = ["verdicts, and the judge's on each fact alone", "the same %", "95% interval", "kappa", "facts"]
    return columns, _verdict_rows(judging.get("control") or {})


def verifier_rows(view: Mapping[str, Any]) -> Rows:
    """A verifier's verdicts beside the judge's: in all, by language and by distance from a threshold."""
    return ["verdicts", "the same %", "95% interval", "kappa", "facts"], _verdict_rows(view["agreement"])


def within_rows(view: Mapping[str, Any]) -> Rows:
    """What each value of `ask_judge_within` leaves to the judge, and the agreement that it brings."""
    rows = []
    for row in view["within"]:
        shares = [row["share"], row["verifier"], row["all"]]
        cells = [NOTHING if share is None else f"{100 * share:.1f}" for share in shares]
        rows.append([f"{row['within']:g}", *cells])
    return ["ask_judge_within", "left to the judge %", "verifier's own right %", "all right %"], rows


def _verdict_rows(figures: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for group, figure in figures.items():
        agreement, kappa = figure["agreement"], figure["kappa"]["value"]
        interval = f"[{100 * agreement['low']:.1f}, {100 * agreement['high']:.1f}]"
        kappa_cell = NOTHING if kappa is None else f"{kappa:.2f}"
        rows.append([group, f"{100 * agreement['value']:.1f}", interval, kappa_cell, f"{figure['n']:,}"])
    return rows

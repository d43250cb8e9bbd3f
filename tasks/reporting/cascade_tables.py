"""Tables of a cascade, as (columns, rows) of strings: see `tables.py`."""

from collections.abc import Mapping
from typing import Any

from tasks.reporting.tables import NOTHING, Rows


def choice_rows(view: Mapping[str, Any]) -> Rows:
    """What each agreement would cost; the recipe's own is marked."""
    rows = []
    for choice in view["choices"]:
        marked = f"{choice['agreement']:g}" + (" (recipe)" if choice["agreement"] == view["wanted"] else "")
        threshold = "none: judge all" if choice["threshold"] is None else f"{choice['threshold']:g}"
        shares = [choice["measured"], choice["answers"], choice["reached"]]
        if view["last"]:
            shares += [choice["answers_last"], choice["reached_last"]]
        rows.append([marked, threshold, *(percent(share) for share in shares)])
    columns = ["agreement", "confidence", "as the judge %", "answers judged %", "in questions %"]
    return [*columns, "in full %", "in full, questions %"] if view["last"] else columns, rows


def percent(share: float | None) -> str:
    """A share as a percentage with a decimal."""
    return NOTHING if share is None else f"{100 * share:.1f}"


def cascade_rows(judging: Mapping[str, Any]) -> Rows:
    """What the cascade decided, what it asked the judge, and how far its pairs are the judge's."""
    cascade = judging.get("cascade")
    if not cascade:
        return ["cascade", ""], []
    rows = []
    questions = sum(cascade["decided"].values())
    for stage, count in cascade["decided"].items():
        rows.append([f"questions decided by {stage}", f"{count:,} of {questions:,}"])
    if questions:
        share = percent(cascade["judged"] / cascade["answers"] if cascade["answers"] else None)
        rows.append(["answers that the judge was asked about", f"{cascade['judged']:,}, {share}%"])
    if in_part := cascade.get("in_part"):
        share = percent(in_part / cascade["answers"])
        rows.append(["· and that it was asked about in part", f"{in_part:,}, {share}%"])
    expected = cascade["expected"]
    words = "all: every answer was judged" if expected is None else f"{percent(expected)}%"
    rows.append(["pairs as the full judge's, expected", words])
    if measured := cascade["measured"]:
        interval = f"[{percent(measured['low'])}, {percent(measured['high'])}]"
        words = f"{percent(measured['value'])}% {interval} of {measured['n']:,} questions"
        rows.append(["· measured on the control sample", words])
        if expected is not None and measured["high"] < expected:
            rows.append(["· that is less than expected", "calibrate anew: longmill agreement DATASET --cascade RECIPE"])
    return ["cascade", ""], rows

"""Agreement and judging as rows of strings: for the terminal, and for the page and the card alike.

Each returns (columns, rows), or no rows when there is nothing to say.
"""

from collections.abc import Mapping
from typing import Any

from tasks.reporting.tables import Rows

NOTHING = "—"


def agreement_rows(agreement: Mapping[str, Any] | None) -> Rows:
    """Accuracy of every dimension, of the mean, and of the mean without each, in per cent."""
    columns = ["score", "agrees %", "95% interval", "pairs", "left out"]
    if not agreement:
        return columns, []
    rows = [[name, *_accuracy(figure)] for name, figure in agreement["dimensions"].items()]
    if len(rows) > 1:
        rows.append(["mean (the reward)", *_accuracy(agreement["mean"])])
    rows += [[f"mean without {name}", *_accuracy(figure)] for name, figure in agreement["leave_one_out"].items()]
    return columns, rows


def gain_rows(agreement: Mapping[str, Any] | None) -> Rows:
    """What each dimension adds to the mean, in points, on the pairs that both means are known for."""
    gains = {name: figure["gain"] for name, figure in (agreement or {}).get("leave_one_out", {}).items()}
    rows = [
        [name, *_percent(gain, gain["value"], signed=True), f"{gain['pairs']:,}"]
        for name, gain in gains.items()
        if gain["value"] is not None
    ]
    return ["what a dimension adds to the mean", "points", "95% interval", "pairs"], rows


def length_rows(judging: Mapping[str, Any]) -> Rows:
    """Rank correlation of scores with length."""
    correlation = (judging.get("length") or {}).get("correlation", {})
    rows = [
        [name, f"{each['value']:+.2f}", f"[{each['low']:+.2f}, {each['high']:+.2f}]", f"{each['n']:,}"]
        for name, each in correlation.items()
    ]
    return ["rank correlation with answer length", "mean", "95% interval", "questions"], rows


def bias_rows(judging: Mapping[str, Any]) -> Rows:
    """Shares that would show a bias of length or of position."""
    longer = (judging.get("length") or {}).get("longer_chosen")
    position = judging.get("position") or {}
    shares = (
        ("chosen answer is the longer one", longer),
        ("duel decided by the order", position.get("changed")),
        ("decided for the answer shown first", position.get("first")),
    )
    rows = [
        [name, *_percent(each, each["value"]), f"{each['n']:,}"]
        for name, each in shares
        if each and each["value"] is not None
    ]
    return ["share", "%", "95% interval", "of"], rows


def expected_rows(judging: Mapping[str, Any]) -> Rows:
    """Expected beside sampled ratings."""
    rows = [
        [
            name,
            NOTHING if each["correlation"] is None else f"{each['correlation']:.2f}",
            f"{each['mean_difference']:+.2f}",
            f"{each['mean_absolute_difference']:.2f}",
            f"{each['n']:,}",
        ]
        for name, each in (judging.get("expected") or {}).items()
    ]
    return ["expected − sampled rating", "correlation", "mean", "apart", "answers"], rows


def saved_rows(judging: Mapping[str, Any]) -> Rows:
    """Calls that were not needed."""
    names = {
        "shared": "verdicts shared by equal facts of a question",
        "pruned": "verdicts not asked for, as they could change no pair",
        "batched": "verdicts that came in one call with others",
    }
    saved = judging.get("saved") or {}
    return ["judge calls saved", "calls"], [
        [names.get(name, name), f"{count:,}"] for name, count in saved.items() if count
    ]


def rejudged_rows(rejudged: Mapping[str, Any] | None) -> Rows:
    """Two judges: kappa of preferences, and of ratings with their stability."""
    columns = ["both judges", "kappa", "95% interval", "the same %", "apart", "n"]
    if not rejudged:
        return columns, []
    rows = []
    if preferences := rejudged["preferences"]:
        kappa = preferences["kappa"]
        rows.append(["preferences", *_kappa(kappa), f"{100 * preferences['agreed']:.1f}", "", f"{kappa['n']:,} pairs"])
    rows += [
        [
            name,
            *_kappa(each["kappa"]),
            f"{100 * each['unchanged']:.1f}",
            f"{each['mean_absolute_difference']:.2f}",
            f"{each['n']:,} answers",
        ]
        for name, each in rejudged["ratings"].items()
    ]
    return columns, rows


def _accuracy(figure: Mapping[str, Any]) -> list[str]:
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in figure["missing"].items())
    return [*_percent(figure, figure["accuracy"]), f"{figure['pairs']:,}", left_out]


def _percent(figure: Mapping[str, Any], value: float | None, signed: bool = False) -> list[str]:
    if value is None:
        return [NOTHING, ""]
    form = "+.1f" if signed else ".1f"
    return [format(100 * value, form), f"[{100 * figure['low']:{form}}, {100 * figure['high']:{form}}]"]


def _kappa(figure: Mapping[str, Any]) -> list[str]:
    if figure["value"] is None:
        return [NOTHING, ""]
    return [f"{figure['value']:.2f}", f"[{figure['low']:.2f}, {figure['high']:.2f}]"]

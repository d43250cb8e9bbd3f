"""Plots of an evaluation as SVG, each in a light and in a dark version: a page shows the one that its reader's is in.

By length and by other numbers, questions stand from left to right; kinds and tasks, which have names, stand below one
another. Every point has its 95% interval. What would show one part alone is left out: it is the whole.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.reporting.plots import (
    BLUE,
    FAINT,
    GREY,
    GROUND,
    INK,
    ORANGE,
    SIZE,
    draw_intervals,
    metric_name,
    new_plot,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Part = Mapping[str, Any]

_DARK = {  # colours of a light plot, and what they are in a dark one
    GROUND: "#1e2226",
    INK: "#e6e9ec",
    FAINT: "#343a40",
    GREY: "#8a929c",
    BLUE: "#86b6ee",
    ORANGE: "#eba36c",
}
_STYLE: dict[str, Any] = {"fmt": "o", "markersize": 6, "capsize": 4, "elinewidth": 1.6, "capthick": 1.6}
_SERIES = (("before", ORANGE, -0.09), ("after", BLUE, 0.09))
_LABELS = {
    "depth": "depth of the needle in the context (%)",
    "position": "position of what is asked about",
    "length": "length of the generated prompt (tokens)",
}
_LONGEST_NAME = 34
_ROTATED = 7  # parts beside one another whose names would touch


def evaluation_plots(outcome: Mapping[str, Any], metric: str) -> dict[str, dict[str, str]]:
    """The plots of one suite's outcome by name ("by-length", "by-kind", "by-task", "by-depth", ...): {"light", "dark"}.

    `outcome` is what `tasks.evaluation.compare` returned.
    """
    plots: dict[str, dict[str, str] | None] = {
        "by-length": numbers_plot(outcome["buckets"], metric, "prompt length (tokens)")
    }
    for name, parts in (outcome.get("groups") or {}).items():
        numbers = all("value" in part for part in parts)
        label = _LABELS.get(name, name)
        plots[f"by-{name}"] = numbers_plot(parts, metric, label) if numbers else names_plot(parts, metric)
    plots["by-kind"] = names_plot(outcome["kinds"], metric)
    plots["by-task"] = names_plot(outcome.get("tasks") or [], metric)
    return {name: plot for name, plot in plots.items() if plot is not None}


def numbers_plot(parts: Sequence[Part], metric: str, label: str) -> dict[str, str] | None:
    """A metric by something that has an order, before and after, with intervals; None for fewer than two parts."""
    rows = [part for part in parts if _figure(part, "before", metric)]
    if len(rows) < 2:
        return None
    plot, axes = new_plot()
    trained = any(part.get("after") for part in rows)
    for side, colour, shift in _SERIES:
        points = []
        for place, part in enumerate(rows):
            figure = _figure(part, side, metric)
            if figure:
                points.append((place + (shift if trained else 0), figure))
        if points:
            draw_intervals(axes, points, color=colour, label=side, **_STYLE)
            values = [100 * figure["value"] for _, figure in points]
            axes.plot([place for place, _ in points], values, color=colour, linewidth=1, alpha=0.5)
    percent = label.startswith("depth")
    axes.set_xticks(range(len(rows)), [_name(part, percent) for part in rows], fontsize=9)
    if len(rows) > _ROTATED:
        axes.tick_params(axis="x", labelrotation=45)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylim(-3, 104)
    axes.set_xlabel(label)
    axes.set_ylabel(f"{metric_name(metric)} (%)")
    if trained:
        _draw_legend(axes, 2)
    return both_grounds(plot)


def names_plot(parts: Sequence[Part], metric: str) -> dict[str, str] | None:
    """A metric of parts with names, below one another; None for fewer than two parts."""
    rows = [part for part in parts if _figure(part, "before", metric)]
    if len(rows) < 2:
        return None
    plot, axes = new_plot((SIZE[0], 1.0 + 0.42 * len(rows)))
    trained = any(part.get("after") for part in rows)
    for side, colour, shift in _SERIES:
        first = True
        for place, part in enumerate(rows):
            figure = _figure(part, side, metric)
            if figure:
                _draw_row(axes, place + (shift if trained else 0), figure, colour, side if first else None)
                first = False
    axes.set_yticks(range(len(rows)), [_short(part) for part in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-3, 104)
    axes.set_xlabel(f"{metric_name(metric)} (%)")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True, color=FAINT, linewidth=0.7)
    if trained:
        _draw_legend(axes, 2)
    return both_grounds(plot)


def steps_plot(curve: Sequence[Mapping[str, Any]], base: Mapping[str, Any], best: int, metric: str) -> dict[str, str]:
    """A metric over the steps of a training on the development questions: the base as a line, the chosen step marked.

    `curve`: {"step", "figure"} of each checkpoint, whose figure has a value.
    """
    plot, axes = new_plot()
    points = [(float(point["step"]), point["figure"]) for point in curve]
    draw_intervals(axes, points, color=BLUE, label="checkpoints", **{**_STYLE, "fmt": "o-"})
    if base["value"] is not None:
        axes.axhline(100 * base["value"], color=ORANGE, linewidth=1.4, linestyle=(0, (4, 3)), label="base")
    axes.axvline(best, color=INK, linewidth=1, linestyle=(0, (1, 2)), label="chosen")
    steps = [point["step"] for point in curve]
    axes.set_xticks(steps, [f"{step:,}" for step in steps])
    if len(steps) > _ROTATED:
        axes.tick_params(axis="x", labelrotation=45)
    lows, highs = ([100 * point["figure"][end] for point in curve] for end in ("low", "high"))
    axes.set_ylim(max(-3, min(lows) - 8), min(104, max(highs) + 8))
    axes.set_xlabel("optimiser step")
    axes.set_ylabel(f"{metric_name(metric)} (%), development")
    _draw_legend(axes, 3)
    return both_grounds(plot)


def both_grounds(figure: "Figure") -> dict[str, str]:
    """The figure as SVG text on a light and on a dark ground; equal figures give equal text.

    Letters stay letters, so that the reader's fonts write names that matplotlib has no glyphs for.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "longmill", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", facecolor=GROUND, metadata={"Date": None, "Creator": None})
    light = buffer.getvalue()
    dark = light
    for colour, other in _DARK.items():
        dark = dark.replace(colour, other)
    return {"light": light, "dark": dark}


def _draw_legend(axes: "Axes", columns: int) -> None:
    """Names of the series in one line above the plot."""
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.1}
    axes.legend(frameon=False, fontsize=9, ncols=columns, labelcolor=INK, **place)


def _draw_row(axes: "Axes", place: float, figure: Mapping[str, Any], colour: str, label: str | None) -> None:
    value, low, high = 100 * figure["value"], 100 * figure["low"], 100 * figure["high"]
    bars = [[max(0.0, value - low)], [max(0.0, high - value)]]
    axes.errorbar([value], [place], xerr=bars, color=colour, label=label, **_STYLE)


def _figure(part: Part, side: str, metric: str) -> Mapping[str, Any] | None:
    """The metric's figure before or after; None when it is missing or has no value."""
    figure: Mapping[str, Any] | None = (part.get(side) or {}).get(metric)
    return figure if figure and figure.get("value") is not None else None


def _name(part: Part, percent: bool) -> str:
    """The name and n: "641-768" as "641–768", the open one as "1025 and more", a depth of 0.25 as 25."""
    name = str(part["name"])
    if percent:
        name = f"{100 * part['value']:.0f}"
    elif "value" not in part:
        name = f"{name[:-1]}+" if name.endswith("-") else name.replace("-", "–")
    return f"{name}\nn = {part['questions']:,}"


def _short(part: Part) -> str:
    name = str(part["name"]) or "other"
    name = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    escaped = name.replace("$", r"\$")  # else a formula
    return f"{escaped}, n = {part['questions']:,}"

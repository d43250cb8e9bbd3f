"""Plots of a dataset and of a comparison, as PNG bytes.

Every plot has one fixed size, one style and an opaque light ground, so that it reads the same on a light and on
a dark page, and carries no time and no version: with the same libraries, equal figures give equal bytes. Colours
keep their meaning: blue is chosen or after, orange is rejected or before, grey is neither.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.reporting.summary import SUBEM, Histogram, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE, _DPI = (6.4, 3.4), 130
_GROUND, _INK, _FAINT = "#fcfcfa", "#24292f", "#d8dade"
_BLUE, _ORANGE, _GREY = "#2f6db3", "#d9762b", "#8a929c"
_BINS = 24
_COLOURS = {"chosen": _BLUE, "rejected": _ORANGE, "mbr": _BLUE}
_NAMES = {"mbr": "MBR"}

PLOTS = {
    "margins": "Difference in reward between chosen and rejected",
    "rewards": "Rewards of chosen and rejected answers",
    "prompt-lengths": "Prompt lengths",
    "answer-lengths": "Answer lengths of chosen and rejected",
    "subem": "SubEM against the reference answers (never used for selection)",
}


def dataset_plots(summary: Summary) -> dict[str, bytes]:
    """The plots of a dataset by name, those of `PLOTS` for which there are figures."""
    of = summary.histograms
    plots: dict[str, bytes] = {}
    if summary.pairs:
        both = {"rejected": of["rejected_rewards"], "chosen": of["chosen_rewards"]}
        lengths = {"rejected": of["rejected_tokens"], "chosen": of["chosen_tokens"]}
        plots["margins"] = histogram_plot({"pairs": of["margins"]}, "margin (reward of chosen − rejected)")
        plots["rewards"] = histogram_plot(both, "reward")
        plots["prompt-lengths"] = histogram_plot({"pairs": of["prompt_tokens"]}, "prompt length (tokens)")
        plots["answer-lengths"] = histogram_plot(lengths, "answer length (tokens)")
    if any(summary.subem.values()):
        plots["subem"] = subem_plot(summary.subem)
    return plots


def histogram_plot(series: Mapping[str, Histogram], label: str) -> bytes:
    """Counts of pairs by value, one filled outline a series; `label` names the axis and its unit."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _canvas()
    edges = _edges([value for each in series.values() for value, _ in each])
    for name, histogram in series.items():
        counts = [0] * (len(edges) - 1)
        width = edges[1] - edges[0]
        for value, count in histogram:
            counts[min(len(counts) - 1, int((value - edges[0]) / width))] += count
        colour = _COLOURS.get(name, _GREY if len(series) > 1 else _BLUE)
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.35 if len(series) > 1 else 0.8)
        axes.stairs(counts, edges, color=colour, linewidth=1.4, label=name)
    axes.set_xlabel(label)
    axes.set_ylabel("pairs")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    if len(series) > 1:
        _legend(axes)
    return _png(figure)


def subem_plot(subem: Mapping[str, Mapping[str, Any] | None]) -> bytes:
    """A bar for each way of picking an answer, its value above it and its n below."""
    figure, axes = _canvas()
    shown = [(name, figures) for name in SUBEM if (figures := subem.get(name)) is not None]
    values = [100 * float(figures["value"]) for _, figures in shown]
    bars = axes.bar(range(len(shown)), values, width=0.62, color=[_COLOURS.get(name, _GREY) for name, _ in shown])
    axes.bar_label(bars, labels=[f"{value:.1f}" for value in values], padding=3, fontsize=10, color=_INK)
    labels = [f"{_NAMES.get(name, name)}\nn = {figures['n']:,}" for name, figures in shown]
    axes.set_xticks(range(len(shown)), labels, fontsize=9)
    axes.set_xlim(-0.6, max(len(shown), 3) - 0.4)
    axes.set_ylabel("SubEM (%)")
    axes.set_ylim(0, min(112, max(10, 1.2 * max(values, default=0))))
    axes.tick_params(axis="x", length=0)
    return _png(figure)


def comparison_plot(buckets: Sequence[Mapping[str, Any]], metric: str) -> bytes | None:
    """Before and after by prompt length, with intervals; None when no bucket has the metric.

    `buckets` are those of `tasks.evaluation.compare`: {"name", "questions", "before", "after"}.
    """
    rows = [each for each in buckets if (each["before"].get(metric) or {}).get("value") is not None]
    if not rows:
        return None
    figure, axes = _canvas()
    trained = any(each.get("after") for each in rows)
    for side, colour, shift in (("before", _ORANGE, -0.09), ("after", _BLUE, 0.09)):
        points = [
            (place + (shift if trained else 0), found)
            for place, each in enumerate(rows)
            if (found := (each.get(side) or {}).get(metric)) and found["value"] is not None
        ]
        if points:
            _intervals(axes, points, colour, side)
    labels = [f"{_bucket_name(each)}\nn = {each['questions']:,}" for each in rows]
    axes.set_xticks(range(len(rows)), labels, fontsize=9)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylim(0, 104)
    axes.set_xlabel("prompt length (tokens)")
    axes.set_ylabel(f"{metric_name(metric)} (%)")
    _legend(axes)
    return _png(figure)


def metric_name(metric: str) -> str:
    """A metric's name as people write it."""
    words = {"subem": "SubEM", "sub": "Sub", "em": "EM", "f1": "F1", "rouge": "ROUGE", "l": "L", "mbr": "MBR"}
    text = " ".join(words.get(word, word) for word in metric.split("_"))
    text = text.replace("Sub EM", "SubEM").replace("ROUGE L", "ROUGE-L")
    return text[:1].upper() + text[1:]


def _legend(axes: "Axes") -> None:
    """Names of the series in one line above the plot, where no figure can lie under them."""
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1)


def _bucket_name(bucket: Mapping[str, Any]) -> str:
    """ "641-768" as "641–768", and the open one as "1025 and more"."""
    name = str(bucket["name"])
    return f"{name[:-1]} and more" if name.endswith("-") else name.replace("-", "–")


def _intervals(axes: "Axes", points: Sequence[tuple[float, Mapping[str, Any]]], colour: str, label: str) -> None:
    places = [place for place, _ in points]
    values = [100 * each["value"] for _, each in points]
    # Rounded bounds may miss their value by a hair, which a bar of negative length would not survive.
    below = [max(0.0, 100 * (each["value"] - each["low"])) for _, each in points]
    above = [max(0.0, 100 * (each["high"] - each["value"])) for _, each in points]
    style: dict[str, Any] = {"fmt": "o", "markersize": 6, "capsize": 4, "elinewidth": 1.6, "capthick": 1.6}
    axes.errorbar(places, values, yerr=[below, above], color=colour, label=label, **style)


def _edges(values: Sequence[float]) -> list[float]:
    """Edges of equal bins over the values; whole numbers get bins of whole width."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if all(float(value).is_integer() for value in values):
        width = max(1, math.ceil((high - low + 1) / _BINS))
        count = max(3, math.ceil((high - low + 1) / width))
        return [low + width * place for place in range(count + 1)]
    span = (high - low) or 1.0
    return [low + span * place / _BINS for place in range(_BINS + 1)]


def _canvas() -> "tuple[Figure, Axes]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor=_GROUND, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=_GROUND)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.grid(axis="y", color=_FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(_INK)
        axis.label.set_fontsize(10)
    return figure, axes


def _png(figure: "Figure") -> bytes:
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        axis.get_offset_text().set_visible(False)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", facecolor=_GROUND, metadata={"Software": None})
    return sink.getvalue()

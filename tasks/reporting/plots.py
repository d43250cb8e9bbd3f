"""Plots of a dataset and of a comparison of models, as PNG bytes, and the style that all plots of Longmill share.

A plot has a fixed size and an opaque light ground, so that it reads the same on a light and on a dark page. It holds no
time and no version: with the same libraries, equal figures give equal bytes. Blue is chosen or after, orange is
rejected or before, grey is neither. A plot that would show nothing is left out: of no pairs, of one scorer beside
itself, of no reference. matplotlib is imported in the functions, because it is slow to import.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.reporting.subem import SUBEM
from tasks.reporting.summary import Histogram, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, DPI = (6.4, 3.4), 130  # inches, dots per inch
GROUND, INK, FAINT = "#fcfcfa", "#24292f", "#d8dade"
BLUE, ORANGE, GREY = "#2f6db3", "#d9762b", "#8a929c"
_COLOURS = {"chosen": BLUE, "rejected": ORANGE, "mbr": BLUE}
_SUBEM_NAMES = {"mbr": "Best-scored"}  # where the name of the plot is not that of the summary
_METRIC_WORDS = {"subem": "SubEM", "sub": "Sub", "em": "EM", "f1": "F1", "rouge": "ROUGE", "l": "L", "mbr": "MBR"}
_BINS = 24

PLOTS = {
    "margins": "Difference in reward between chosen and rejected",
    "rewards": "Rewards of chosen and rejected answers",
    "prompt-lengths": "Prompt lengths",
    "answer-lengths": "Answer lengths of chosen and rejected",
    "scores": "Scores of chosen and rejected answers, by dimension",
    "agreement": "How often the higher score is the better answer by the references (never used for selection)",
    "subem": "SubEM against the reference answers (never used for selection)",
}


def dataset_plots(summary: Summary) -> dict[str, bytes]:
    """The plots of a dataset by name: those of `PLOTS` for which there are figures."""
    histograms = summary.histograms
    plots: dict[str, bytes] = {}
    if summary.pairs:
        rewards = {"rejected": histograms["rejected_rewards"], "chosen": histograms["chosen_rewards"]}
        lengths = {"rejected": histograms["rejected_tokens"], "chosen": histograms["chosen_tokens"]}
        margins, prompts = {"pairs": histograms["margins"]}, {"pairs": histograms["prompt_tokens"]}
        plots["margins"] = histogram_plot(margins, "margin (reward of chosen − rejected)")
        plots["rewards"] = histogram_plot(rewards, "reward")
        plots["prompt-lengths"] = histogram_plot(prompts, "prompt length (tokens)")
        plots["answer-lengths"] = histogram_plot(lengths, "answer length (tokens)")
        if len(summary.score_histograms) > 1:
            plots["scores"] = score_plot(summary.score_histograms)
    if summary.agreement and len(summary.agreement["dimensions"]) > 1 and _agrees_anywhere(summary.agreement):
        plots["agreement"] = agreement_plot(summary.agreement)
    if any(summary.subem.values()):
        plots["subem"] = subem_plot(summary.subem)
    return plots


def histogram_plot(series: Mapping[str, Histogram], label: str) -> bytes:
    """Counts of pairs by value, one filled outline a series; `label` names the axis and its unit."""
    figure, axes = new_plot()
    draw_histogram(axes, series)
    axes.set_xlabel(label)
    axes.set_ylabel("pairs")
    if len(series) > 1:
        draw_legend(axes)
    return png(figure)


def score_plot(scores: Mapping[str, Mapping[str, Histogram]]) -> bytes:
    """The scores of chosen and rejected answers, a small plot for each scorer."""
    figure, all_axes = panels(len(scores))
    for axes, (name, sides) in zip(all_axes, scores.items(), strict=True):
        draw_histogram(axes, {"rejected": sides["rejected"], "chosen": sides["chosen"]})  # chosen lies on top
        axes.set_title(metric_name(name), fontsize=10, color=INK, loc="left")
        axes.set_ylabel("pairs")
    draw_shared_legend(figure)
    return png(figure)


def agreement_plot(agreement: Mapping[str, Any]) -> bytes:
    """Accuracy of every dimension, of the mean, and of the mean without each, with intervals; a line at chance."""
    rows = []
    for name, figure in agreement["dimensions"].items():
        rows.append((metric_name(name), figure, BLUE))
    rows.append(("Mean (the reward)", agreement["mean"], INK))
    for name, figure in agreement["leave_one_out"].items():
        rows.append((f"Mean without {name}", figure, GREY))
    rows = [row for row in rows if row[1]["accuracy"] is not None]
    plot, axes = new_plot((SIZE[0], 0.9 + 0.3 * len(rows)))
    labels, lowest = [], 45.0
    for place, (name, figure, colour) in enumerate(rows):
        value, low, high = 100 * figure["accuracy"], 100 * figure["low"], 100 * figure["high"]
        bars = [[max(0.0, value - low)], [max(0.0, high - value)]]
        axes.errorbar([value], [-place], xerr=bars, color=colour, fmt="o", markersize=6, capsize=4, elinewidth=1.6)
        labels.append(f"{name}, n = {figure['pairs']:,}")
        lowest = min(lowest, low - 3)
    axes.axvline(50, color=ORANGE, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(range(0, -len(rows), -1), labels)
    axes.set_ylim(0.6 - len(rows), 0.6)
    axes.set_xlim(lowest, 102)
    axes.set_xlabel("agrees with the references (%); chance is 50")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    return png(plot)


def _agrees_anywhere(agreement: Mapping[str, Any]) -> bool:
    """False where no score is to be compared: a judge none of whose replies can be used gives none."""
    figures = [*agreement["dimensions"].values(), agreement["mean"], *agreement["leave_one_out"].values()]
    return any(figure["accuracy"] is not None for figure in figures)


def subem_plot(subem: Mapping[str, Mapping[str, Any] | None]) -> bytes:
    """A bar for each way of picking an answer, its value above it and its n below."""
    plot, axes = new_plot()
    labels, values, percents, colours = [], [], [], []
    for name in SUBEM:
        figure = subem.get(name)
        if figure is not None:
            labels.append(f"{_SUBEM_NAMES.get(name, name)}\nn = {figure['n']:,}")
            values.append(100 * float(figure["value"]))
            percents.append(f"{values[-1]:.1f}")
            colours.append(_COLOURS.get(name, GREY))
    bars = axes.bar(range(len(values)), values, width=0.62, color=colours)
    axes.bar_label(bars, labels=percents, padding=3, fontsize=10, color=INK)
    axes.set_xticks(range(len(values)), labels, fontsize=9)
    axes.set_xlim(-0.6, max(len(values), 3) - 0.4)
    axes.set_ylabel("SubEM (%)")
    axes.set_ylim(0, min(112, max(10, 1.2 * max(values, default=0))))
    axes.tick_params(axis="x", length=0)
    return png(plot)


def comparison_plot(buckets: Sequence[Mapping[str, Any]], metric: str) -> bytes | None:
    """Before and after by prompt length, with intervals; None when no bucket has the metric.

    `buckets` are those of `tasks.evaluation.compare`: {"name", "questions", "before", "after"}.
    """
    rows = [bucket for bucket in buckets if _measured_figure(bucket, "before", metric)]
    if not rows:
        return None
    plot, axes = new_plot()
    trained = any(bucket.get("after") for bucket in rows)
    for side, colour, shift in (("before", ORANGE, -0.09), ("after", BLUE, 0.09)):
        points = []
        for place, bucket in enumerate(rows):
            figure = _measured_figure(bucket, side, metric)
            if figure:
                points.append((place + (shift if trained else 0), figure))
        if points:
            style = {"fmt": "o", "markersize": 6, "capsize": 4, "elinewidth": 1.6, "capthick": 1.6}
            draw_intervals(axes, points, color=colour, label=side, **style)
    axes.set_xticks(range(len(rows)), list(map(_bucket_label, rows)), fontsize=9)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylim(0, 104)
    axes.set_xlabel("prompt length (tokens)")
    axes.set_ylabel(f"{metric_name(metric)} (%)")
    draw_legend(axes)
    return png(plot)


def metric_name(metric: str) -> str:
    """A metric's name as people write it."""
    text = " ".join(_METRIC_WORDS.get(word, word) for word in metric.split("_"))
    text = text.replace("Sub EM", "SubEM").replace("ROUGE L", "ROUGE-L")
    return text[:1].upper() + text[1:]


def _measured_figure(bucket: Mapping[str, Any], side: str, metric: str) -> Mapping[str, Any] | None:
    """The metric's figure before or after training; None when it is missing or has no value."""
    figure: Mapping[str, Any] | None = (bucket.get(side) or {}).get(metric)
    return figure if figure and figure.get("value") is not None else None


def _bucket_label(bucket: Mapping[str, Any]) -> str:
    """The name and n: "641-768" as "641–768", and the open one as "1025 and more"."""
    name = str(bucket["name"])
    name = f"{name[:-1]} and more" if name.endswith("-") else name.replace("-", "–")
    return f"{name}\nn = {bucket['questions']:,}"


def new_plot(size: tuple[float, float] = SIZE) -> "tuple[Figure, Axes]":
    """An empty plot in the common style, its size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, facecolor=GROUND, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=GROUND)
    _apply_style(axes)
    return figure, axes


def panels(count: int, columns: int = 2) -> "tuple[Figure, list[Axes]]":
    """Small plots in rows of `columns`, read from left to right; each is half as high as a plot of its own."""
    rows = math.ceil(count / columns)
    figure, _ = new_plot((SIZE[0], 0.6 * SIZE[1] * rows + 0.2))
    figure.clear()
    grid = figure.subplots(rows, min(count, columns), squeeze=False)
    all_axes: list[Axes] = list(grid.ravel())
    for axes in all_axes[:count]:
        _apply_style(axes)
    for axes in all_axes[count:]:
        axes.set_axis_off()
    return figure, all_axes[:count]


def _apply_style(axes: "Axes") -> None:
    axes.set_facecolor(GROUND)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(INK)
        axis.label.set_fontsize(10)


def draw_histogram(axes: "Axes", series: Mapping[str, Histogram]) -> None:
    """Counts of pairs by value, one filled outline a series."""
    from matplotlib.ticker import MaxNLocator

    values = []
    for histogram in series.values():
        for value, _ in histogram:
            values.append(value)
    edges = _bin_edges(values)
    width = edges[1] - edges[0]
    for name, histogram in series.items():
        counts = [0] * (len(edges) - 1)
        for value, count in histogram:
            counts[min(len(counts) - 1, int((value - edges[0]) / width))] += count
        colour = _COLOURS.get(name, GREY if len(series) > 1 else BLUE)
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.35 if len(series) > 1 else 0.8)
        axes.stairs(counts, edges, color=colour, linewidth=1.4, label=name)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))


def _bin_edges(values: Sequence[float]) -> list[float]:
    """Edges of equal bins over the values; whole numbers get bins of a whole width."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if all(float(value).is_integer() for value in values):
        width = max(1, math.ceil((high - low + 1) / _BINS))
        bins = max(3, math.ceil((high - low + 1) / width))
        edges = low + width * np.arange(bins + 1)
    else:
        span = (high - low) or 1.0
        edges = low + span * np.arange(_BINS + 1) / _BINS
    return list(map(float, edges))


def draw_intervals(axes: "Axes", points: Sequence[tuple[float, Mapping[str, Any]]], **style: Any) -> None:
    """Figures in per cent with their intervals as vertical bars; `points` are (x, figure)."""
    places, values, below, above = [], [], [], []
    for place, figure in points:
        places.append(place)
        values.append(100 * figure["value"])
        # Bounds are rounded, so the value may lie outside them by a little; a bar of negative length is an error.
        below.append(max(0.0, 100 * (figure["value"] - figure["low"])))
        above.append(max(0.0, 100 * (figure["high"] - figure["value"])))
    axes.errorbar(places, values, yerr=[below, above], **style)


def draw_legend(axes: "Axes") -> None:
    """Names of the series in one line above the plot, so that they cover nothing."""
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1)


def draw_shared_legend(figure: "Figure") -> None:
    """Names of the series above all panels; every panel has the same."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, ncols=2, loc="outside upper right")


def png(figure: "Figure") -> bytes:
    """The figure's bytes."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_offset_text().set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=GROUND, metadata={"Software": None})
    return buffer.getvalue()

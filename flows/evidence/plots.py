"""The evidence as plots, from the table alone: accuracy by length, picks by N, scores by dimension, training curves.

In the style of tasks/reporting/plots.py.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from flows.evidence.table import figures_of
from tasks.reporting.plots import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    comparison_plot,
    draw_intervals,
    draw_shared_legend,
    new_plot,
    panels,
    png,
    score_plot,
)
from tasks.reporting.summary import Histogram

Table = Mapping[str, Any]
_METHODS = {"sealong": "SeaLong", "longreward": "LongReward"}  # rows that train
_PICKS = {"oracle": GREY, "MBR(embedding)": BLUE, "MBR(ROUGE)": INK, "random": ORANGE}
_COUNTED = re.compile(r"oracle@(\d+)")  # its figures tell which N were measured


def evidence_plots(table: Table) -> dict[str, bytes]:
    """The plots by name, those for which there are figures."""
    rows = {row["name"]: row for row in table["rows"]}
    plots = {}
    for name in _METHODS:
        image = by_length_plot(rows[name]) if name in rows else None
        if image is not None:
            plots[f"{name}-by-length"] = image
    picks = figures_of(table, "consensus")
    if "greedy" in picks:
        plots["picks-by-samples"] = picks_plot(picks)
    scores = _scores(rows["longreward"]) if "longreward" in rows else {}
    if scores:
        plots["scores-by-dimension"] = score_plot(scores)
    curves = {}
    for name, label in _METHODS.items():
        curves_of_method = _curves(rows[name]) if name in rows else {}
        if curves_of_method:
            curves[label] = curves_of_method
    if curves:
        plots["training"] = curves_plot(curves)
    return plots


def by_length_plot(row: Mapping[str, Any]) -> bytes | None:
    """SubEM before and after by length of the context."""
    buckets = []
    for group in row["lengths"]:
        before, after = group["figures"].get("SubEM before"), group["figures"].get("SubEM after")
        bucket = {"name": group["name"], "questions": group["questions"]}
        buckets.append({**bucket, "before": {"sub_em": before}, "after": {"sub_em": after}})
    return comparison_plot(buckets, "sub_em")


def picks_plot(figures: Mapping[str, Mapping[str, Any]]) -> bytes:
    """SubEM of oracle, MBR and random by the number of samples, with intervals; greedy as a line."""
    plot, axes = new_plot()
    counts = _sample_counts(figures)
    for number, (name, colour) in enumerate(_PICKS.items()):
        shift = 0.06 * (number - 1.5)  # so that bars do not cover one another
        points = []
        for place, count in enumerate(counts):
            figure = figures.get(f"{name}@{count}")
            if figure and figure["value"] is not None:
                points.append((place + shift, figure))
        draw_intervals(axes, points, color=colour, label=name, fmt="o-", markersize=5, capsize=3)
    axes.axhline(100 * figures["greedy"]["value"], color=INK, linestyle=(0, (4, 3)), linewidth=1.2, label="greedy")
    axes.set_xticks(range(len(counts)), [f"N = {count}" for count in counts])
    axes.set_xlim(-0.4, len(counts) - 0.6)
    axes.set_ylim(0, 104)
    axes.set_ylabel("SubEM (%)")
    axes.legend(frameon=False, fontsize=9, ncols=5, loc="lower right", bbox_to_anchor=(1.0, 1.0), columnspacing=1.0)
    return png(plot)


def _sample_counts(figures: Mapping[str, Any]) -> list[int]:
    """Every N that was measured, from the smallest."""
    counts = []
    for name in figures:
        match = _COUNTED.fullmatch(name)
        if match:
            counts.append(int(match[1]))
    return sorted(counts)


def curves_plot(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """The loss by optimiser step, a panel for each method, a line for each seed; `curves` by method, by seed."""
    from matplotlib.ticker import MaxNLocator

    figure, all_axes = panels(len(curves))
    for axes, (label, losses_by_seed) in zip(all_axes, curves.items(), strict=True):
        colours = cycle((BLUE, ORANGE, GREY, INK))
        for seed, losses in losses_by_seed.items():
            steps = range(1, len(losses) + 1)
            axes.plot(steps, losses, color=next(colours), linewidth=1.2, label=f"seed {seed}")
        axes.set_title(label, fontsize=10, color=INK, loc="left")
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    draw_shared_legend(figure)
    return png(figure)


def _scores(row: Mapping[str, Any]) -> dict[str, dict[str, Histogram]]:
    """Scores of chosen and rejected answers by dimension, over all seeds."""
    counts: dict[str, dict[str, Counter[float]]] = {}
    for details in row["about"].values():
        for name, sides in details.get("scores", {}).items():
            for side, histogram in sides.items():
                counts.setdefault(name, {}).setdefault(side, Counter()).update(dict(histogram))
    scores: dict[str, dict[str, Histogram]] = {}
    for name, counters in counts.items():
        if any(counters.values()):
            scores[name] = {}
            for side, counter in counters.items():
                scores[name][side] = tuple(sorted(counter.items()))
    return scores


def _curves(row: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """The losses by seed, of the seeds that were trained."""
    curves = {}
    for seed, details in row["about"].items():
        if details.get("curve"):
            curves[seed] = details["curve"]
    return curves

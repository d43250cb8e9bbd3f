"""The evidence as plots, from the table alone: accuracy by length, picks by N, scores by dimension, training curves.

On an opaque light ground, so that they read the same on a light and on a dark page (see tasks/reporting/drawing.py).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flows.evidence import SAMPLE_COUNTS
from flows.evidence.table import figures_of
from tasks.reporting.drawing import BLUE, GREY, INK, ORANGE, canvas, panels, png, shared_legend
from tasks.reporting.plots import comparison_plot, score_plot
from tasks.reporting.summary import Histogram

Table = Mapping[str, Any]
_TRAINED = {"sealong": "SeaLong", "longreward": "LongReward"}
_PICKS = {"oracle": GREY, "MBR(embedding)": BLUE, "MBR(ROUGE)": INK, "random": ORANGE}


def evidence_plots(table: Table) -> dict[str, bytes]:
    """The plots by name, those for which there are figures."""
    rows = {row["name"]: row for row in table["rows"]}
    plots = {}
    for name in _TRAINED:
        if name in rows and (image := by_length_plot(rows[name])) is not None:
            plots[f"{name}-by-length"] = image
    if (picks := figures_of(table, "consensus")) and "greedy" in picks:
        plots["picks-by-samples"] = picks_plot(picks)
    if "longreward" in rows and (scores := _scores(rows["longreward"])):
        plots["scores-by-dimension"] = score_plot(scores)
    curves = {label: found for name, label in _TRAINED.items() if name in rows and (found := _curves(rows[name]))}
    if curves:
        plots["training"] = curves_plot(curves)
    return plots


def by_length_plot(row: Mapping[str, Any]) -> bytes | None:
    """SubEM before and after by length of the context."""
    buckets = [
        {
            "name": each["name"],
            "questions": each["questions"],
            "before": {"sub_em": each["figures"].get("SubEM before")},
            "after": {"sub_em": each["figures"].get("SubEM after")},
        }
        for each in row["lengths"]
    ]
    return comparison_plot(buckets, "sub_em")


def picks_plot(figures: Mapping[str, Mapping[str, Any]]) -> bytes:
    """SubEM of oracle, MBR and random by the number of samples, with intervals; greedy as a line."""
    figure, axes = canvas()
    for shift, (name, colour) in enumerate(_PICKS.items()):
        points = [
            (place + 0.06 * (shift - 1.5), found)
            for place, count in enumerate(SAMPLE_COUNTS)
            if (found := figures.get(f"{name}@{count}")) and found["value"] is not None
        ]
        values = [100 * each["value"] for _, each in points]
        bars = [
            [max(0.0, 100 * (each["value"] - each["low"])) for _, each in points],
            [max(0.0, 100 * (each["high"] - each["value"])) for _, each in points],
        ]
        places = [place for place, _ in points]
        axes.errorbar(places, values, yerr=bars, color=colour, label=name, fmt="o-", markersize=5, capsize=3)
    axes.axhline(100 * figures["greedy"]["value"], color=INK, linestyle=(0, (4, 3)), linewidth=1.2, label="greedy")
    axes.set_xticks(range(len(SAMPLE_COUNTS)), [f"N = {count}" for count in SAMPLE_COUNTS])
    axes.set_xlim(-0.4, len(SAMPLE_COUNTS) - 0.6)
    axes.set_ylim(0, 104)
    axes.set_ylabel("SubEM (%)")
    axes.legend(frameon=False, fontsize=9, ncols=5, loc="lower right", bbox_to_anchor=(1.0, 1.0), columnspacing=1.0)
    return png(figure)


def curves_plot(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """The loss by optimiser step, a panel for each method, a line for each seed."""
    from matplotlib.ticker import MaxNLocator

    figure, drawn = panels(len(curves))
    for axes, (label, of_method) in zip(drawn, curves.items(), strict=True):
        for (seed, losses), colour in zip(of_method.items(), (BLUE, ORANGE, GREY, INK) * len(of_method), strict=False):
            axes.plot(range(1, len(losses) + 1), losses, color=colour, linewidth=1.2, label=f"seed {seed}")
        axes.set_title(label, fontsize=10, color=INK, loc="left")
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    shared_legend(figure)
    return png(figure)


def _scores(row: Mapping[str, Any]) -> dict[str, dict[str, Histogram]]:
    """Scores of chosen and rejected answers by dimension, over all seeds."""
    counts: dict[str, dict[str, Counter[float]]] = {}
    for about in row["about"].values():
        for name, sides in about.get("scores", {}).items():
            for side, histogram in sides.items():
                counter = counts.setdefault(name, {}).setdefault(side, Counter())
                counter.update(dict(histogram))
    return {
        name: {side: tuple(sorted(counter.items())) for side, counter in sides.items()}
        for name, sides in counts.items()
        if any(sides.values())
    }


def _curves(row: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    return {seed: about["curve"] for seed, about in row["about"].items() if about.get("curve")}

"""Plots of a dataset and of a comparison, as PNG bytes. Their common style is `drawing`'s.

Leaves out every plot that would say nothing: of no pairs, of one scorer beside itself, of no reference.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.reporting.drawing import (
    BLUE,
    FAINT,
    GREY,
    INK,
    ORANGE,
    SIZE,
    canvas,
    histogram,
    legend,
    panels,
    png,
    shared_legend,
)
from tasks.reporting.summary import SUBEM, Histogram, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"chosen": BLUE, "rejected": ORANGE, "mbr": BLUE}
_NAMES = {"mbr": "Best-scored"}

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
        if len(summary.score_histograms) > 1:
            plots["scores"] = score_plot(summary.score_histograms)
    if summary.agreement and len(summary.agreement["dimensions"]) > 1:
        plots["agreement"] = agreement_plot(summary.agreement)
    if any(summary.subem.values()):
        plots["subem"] = subem_plot(summary.subem)
    return plots


def histogram_plot(series: Mapping[str, Histogram], label: str) -> bytes:
    """Counts of pairs by value, one filled outline a series; `label` names the axis and its unit."""
    figure, axes = canvas()
    histogram(axes, series, _COLOURS)
    axes.set_xlabel(label)
    axes.set_ylabel("pairs")
    if len(series) > 1:
        legend(axes)
    return png(figure)


def score_plot(scores: Mapping[str, Mapping[str, Histogram]]) -> bytes:
    """The scores of chosen and rejected answers, a small plot for each scorer."""
    figure, drawn = panels(len(scores))
    for axes, (name, sides) in zip(drawn, scores.items(), strict=True):
        histogram(axes, {side: sides[side] for side in ("rejected", "chosen")}, _COLOURS)
        axes.set_title(metric_name(name), fontsize=10, color=INK, loc="left")
        axes.set_ylabel("pairs")
    shared_legend(figure)
    return png(figure)


def agreement_plot(agreement: Mapping[str, Any]) -> bytes:
    """Accuracy of every dimension, of the mean, and of the mean without each, with intervals; a line at chance."""
    rows = [(metric_name(name), each, BLUE) for name, each in agreement["dimensions"].items()]
    rows.append(("Mean (the reward)", agreement["mean"], INK))
    rows += [(f"Mean without {name}", each, GREY) for name, each in agreement["leave_one_out"].items()]
    rows = [row for row in rows if row[1]["accuracy"] is not None]
    figure, axes = canvas((SIZE[0], 0.9 + 0.3 * len(rows)))
    for place, (_, each, colour) in enumerate(rows):
        value, low, high = (100 * each[name] for name in ("accuracy", "low", "high"))
        bars = [[max(0.0, value - low)], [max(0.0, high - value)]]
        axes.errorbar([value], [-place], xerr=bars, color=colour, fmt="o", markersize=6, capsize=4, elinewidth=1.6)
    axes.axvline(50, color=ORANGE, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(
        [-place for place in range(len(rows))], [f"{name}, n = {each['pairs']:,}" for name, each, _ in rows]
    )
    axes.set_ylim(0.6 - len(rows), 0.6)
    axes.set_xlim(min(45.0, *(100 * each["low"] - 3 for _, each, _ in rows)), 102)
    axes.set_xlabel("agrees with the references (%); chance is 50")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    return png(figure)


def subem_plot(subem: Mapping[str, Mapping[str, Any] | None]) -> bytes:
    """A bar for each way of picking an answer, its value above it and its n below."""
    figure, axes = canvas()
    shown = [(name, figures) for name in SUBEM if (figures := subem.get(name)) is not None]
    values = [100 * float(figures["value"]) for _, figures in shown]
    bars = axes.bar(range(len(shown)), values, width=0.62, color=[_COLOURS.get(name, GREY) for name, _ in shown])
    axes.bar_label(bars, labels=[f"{value:.1f}" for value in values], padding=3, fontsize=10, color=INK)
    labels = [f"{_NAMES.get(name, name)}\nn = {figures['n']:,}" for name, figures in shown]
    axes.set_xticks(range(len(shown)), labels, fontsize=9)
    axes.set_xlim(-0.6, max(len(shown), 3) - 0.4)
    axes.set_ylabel("SubEM (%)")
    axes.set_ylim(0, min(112, max(10, 1.2 * max(values, default=0))))
    axes.tick_params(axis="x", length=0)
    return png(figure)


def comparison_plot(buckets: Sequence[Mapping[str, Any]], metric: str) -> bytes | None:
    """Before and after by prompt length, with intervals; None when no bucket has the metric.

    `buckets` are those of `tasks.evaluation.compare`: {"name", "questions", "before", "after"}.
    """
    rows = [each for each in buckets if (each["before"].get(metric) or {}).get("value") is not None]
    if not rows:
        return None
    figure, axes = canvas()
    trained = any(each.get("after") for each in rows)
    for side, colour, shift in (("before", ORANGE, -0.09), ("after", BLUE, 0.09)):
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
    legend(axes)
    return png(figure)


def metric_name(metric: str) -> str:
    """A metric's name as people write it."""
    words = {"subem": "SubEM", "sub": "Sub", "em": "EM", "f1": "F1", "rouge": "ROUGE", "l": "L", "mbr": "MBR"}
    text = " ".join(words.get(word, word) for word in metric.split("_"))
    text = text.replace("Sub EM", "SubEM").replace("ROUGE L", "ROUGE-L")
    return text[:1].upper() + text[1:]


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

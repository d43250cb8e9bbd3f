"""Variants of a recipe beside each other: the rows of their table, and their plot.

A comparison is what `longmill compare` writes as table.json: {"recipe", "variations": [{"key", "name", "numeric"}],
"currency", "rows": [row]}; a row is {"values", "value_names", "plan_id", "dataset", "questions", "pairs", "drops",
"subem", "gain", "agreement", "calls": {"total", "new"}, "tokens": {"prompt", "completion"}, "cost", "model"}.
Quality is SubEM against the references, in per cent. Without references there is no quality, and no plot.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.reporting.plots import BLUE, GREY, INK, ORANGE, SIZE, draw_intervals, new_plot, png
from tasks.reporting.subem import SUBEM
from tasks.reporting.tables import NOTHING, Rows, markdown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Comparison = Mapping[str, Any]

_PICKS = {"mbr": "best"}  # the column of a pick where it is not the pick's name
_SERIES = {  # pick → name in the legend, colour, and the form of its line
    "oracle": ("oracle", INK, "o:"),
    "chosen": ("chosen", BLUE, "o-"),
    "random": ("random", GREY, "o-"),
    "rejected": ("rejected", ORANGE, "o-"),
}
_LINES = (BLUE, ORANGE, GREY, INK)
_LEGEND_CHARACTERS = 84  # of names and their marks in one line above a plot
_LONGEST_NAME = 28  # characters beside a bar; the end of a longer name is left out


def variant_rows(comparison: Comparison, *, brief: bool = False) -> Rows:
    """A row for each variant; columns that say nothing of any are left out.

    `brief` leaves out as well what is the same for all of them: it stands in `shared_figures`.
    """
    columns = [variation["name"] for variation in comparison["variations"]]
    rows = [list(row["value_names"]) for row in comparison["rows"]]
    shared = shared_figures(comparison) if brief else {}
    for name, cells in _figures(comparison).items():
        if name not in shared and any(cell != NOTHING for cell in cells):
            columns.append(name)
            for row, cell in zip(rows, cells, strict=True):
                row.append(cell)
    return columns, rows


def brief_tables(comparison: Comparison, width: int) -> list[Rows]:
    """The brief table for a terminal of so many characters: in one, or where it is too wide in two, quality first."""
    columns, rows = variant_rows(comparison, brief=True)
    widths = []
    for place, column in enumerate(columns):
        widths.append(max(len(column), *(len(row[place]) for row in rows)))
    if sum(widths) + 2 * (len(columns) - 1) <= width:
        return [(columns, rows)]
    names, first_of_calls = len(comparison["variations"]), columns.index("calls")
    quality = columns[:first_of_calls], [row[:first_of_calls] for row in rows]
    calls = [*columns[:names], *columns[first_of_calls:]], [[*row[:names], *row[first_of_calls:]] for row in rows]
    return [quality, calls]


def shared_figures(comparison: Comparison) -> dict[str, str]:
    """What all variants have in common: their questions, and the SubEM of answers that no scorer has picked."""
    shared = {}
    figures = _figures(comparison)
    for name in ("questions", "greedy", "random", "oracle"):
        cells = figures[name]
        if cells[0] != NOTHING and len(set(cells)) == 1:
            shared[name] = cells[0]
    return shared


def variants_markdown(comparison: Comparison) -> str:
    """The table as Markdown."""
    return markdown(*variant_rows(comparison))


def variants_plot(comparison: Comparison) -> bytes | None:
    """SubEM of the variants as a PNG: lines over the values of a first variation of numbers, else bars by name.

    None when no variant has references.
    """
    rows = comparison["rows"]
    if not any(_percent(row, "chosen") is not None or _percent(row, "random") is not None for row in rows):
        return None
    first, *others = comparison["variations"]
    if not first["numeric"]:
        return _bars(rows)
    return _lines_of_groups(comparison) if others else _lines_of_picks(comparison)


def _figures(comparison: Comparison) -> dict[str, list[str]]:
    """The cells of each column, one a row."""
    rows = comparison["rows"]
    figures: dict[str, list[str]] = {
        "questions": [f"{row['questions']:,}" for row in rows],
        "pairs": [f"{row['pairs']:,}" for row in rows],
    }
    for pick in SUBEM:
        percents = [_percent(row, pick) for row in rows]
        figures[_PICKS.get(pick, pick)] = [NOTHING if percent is None else f"{percent:.1f}" for percent in percents]
        if pick == "mbr":
            figures["gain"] = [_gain(row, number) for number, row in enumerate(rows)]
    figures["agrees"] = [_agreement(row) for row in rows]
    for name in ("before", "after"):
        figures[name] = [_model_figure(row, name) for row in rows]
    for name, key in (("calls", "total"), ("new", "new")):
        figures[name] = [f"{row['calls'][key]:,}" for row in rows]
    figures["tokens"] = [_short_count(row["tokens"]["prompt"] + row["tokens"]["completion"]) for row in rows]
    costs = [row["cost"] for row in rows]
    digits = 2 if max(costs) >= 1 else 4
    figures[f"cost {comparison['currency']}"] = [f"{cost:.{digits}f}" if any(costs) else NOTHING for cost in costs]
    return figures


def _percent(row: Mapping[str, Any], pick: str) -> float | None:
    figure = row["subem"].get(pick)
    return None if figure is None else 100 * float(figure["value"])


def _gain(row: Mapping[str, Any], number: int) -> str:
    """The gain over the first row in points, and half the width of its interval."""
    gain = row["gain"]
    if gain is None or number == 0:
        return NOTHING
    return f"{100 * gain['value']:+.1f} ±{50 * (gain['high'] - gain['low']):.1f}"


def _agreement(row: Mapping[str, Any]) -> str:
    accuracy = (row["agreement"] or {}).get("accuracy")
    return NOTHING if accuracy is None else f"{100 * accuracy:.1f}"


def _model_figure(row: Mapping[str, Any], side: str) -> str:
    figure = ((row["model"] or {}).get(side) or {}).get("sub_em")
    return NOTHING if not figure or figure.get("value") is None else f"{100 * figure['value']:.1f}"


def _short_count(count: int) -> str:
    if count >= 1_000_000:
        return f"{count / 1_000_000:.1f}M"
    return f"{count / 1000:.0f}k" if count >= 10_000 else f"{count:,}"


def _lines_of_picks(comparison: Comparison) -> bytes:
    """Every pick over the values of one variation."""
    plot, axes = new_plot()
    for pick, (name, colour, form) in _SERIES.items():
        _draw_line(axes, _points(comparison["rows"], pick), form, colour, name)
    intervals = []
    for row in comparison["rows"]:
        if _percent(row, "chosen") is not None:
            intervals.append((float(row["values"][0]), row["subem"]["chosen"]))
    if intervals:
        draw_intervals(axes, intervals, color=BLUE, fmt="none", capsize=3, elinewidth=1.2)
    greedy = shared_figures(comparison).get("greedy")
    if greedy is not None:
        axes.axhline(float(greedy), color=INK, linestyle=(0, (4, 3)), linewidth=1.2, label="greedy")
    _finish_lines(axes, comparison)
    return png(plot)


def _lines_of_groups(comparison: Comparison) -> bytes:
    """The chosen answers over the values of the first variation, a line for each combination of the others."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in comparison["rows"]:
        groups.setdefault(" · ".join(row["value_names"][1:]), []).append(row)
    plot, axes = new_plot()
    for number, (name, rows) in enumerate(groups.items()):
        form = ("o-", "s--", "^:")[number // len(_LINES) % 3]
        _draw_line(axes, _points(rows, "chosen"), form, _LINES[number % len(_LINES)], name)
    _finish_lines(axes, comparison)
    axes.set_ylabel("SubEM of chosen answers (%)")
    return png(plot)


def _points(rows: Sequence[Mapping[str, Any]], pick: str) -> list[tuple[float, float]]:
    points = []
    for row in rows:
        percent = _percent(row, pick)
        if percent is not None:
            points.append((float(row["values"][0]), percent))
    return sorted(points)


def _draw_line(axes: "Axes", points: Sequence[tuple[float, float]], form: str, colour: str, name: str) -> None:
    if points:
        axes.plot([x for x, _ in points], [y for _, y in points], form, color=colour, label=name, markersize=5)


def _finish_lines(axes: "Axes", comparison: Comparison) -> None:
    values = sorted({float(row["values"][0]) for row in comparison["rows"]})
    doubling = values[0] > 0 and len(values) > 2 and values[-1] / values[0] >= len(values)
    if doubling:
        axes.set_xscale("log", base=2)
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set_xlabel(comparison["variations"][0]["key"])
    axes.set_ylabel("SubEM (%)")
    axes.set_ylim(0, 104)
    _draw_legend(axes)


def _bars(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Chosen, random and rejected answers as bars for each variant, the first on top; the oracle as a mark."""
    plot, axes = new_plot((SIZE[0], 1.0 + 0.62 * len(rows)))
    labels = []
    for place, row in enumerate(rows):
        for shift, pick in ((-0.26, "chosen"), (0.0, "random"), (0.26, "rejected")):
            percent = _percent(row, pick)
            if percent is None:
                continue
            name, colour, _ = _SERIES[pick]
            bar = axes.barh([place + shift], [percent], height=0.24, color=colour, label=name if not place else None)
            axes.bar_label(bar, labels=[f"{percent:.1f}"], padding=3, fontsize=8, color=INK)
        oracle = _percent(row, "oracle")
        if oracle is not None:
            axes.plot([oracle] * 2, [place - 0.38, place + 0.38], color=INK, label=None if place else "oracle")
        name = " · ".join(row["value_names"])
        labels.append(name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…")
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 104)
    axes.set_xlabel("SubEM (%)")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True, linewidth=0.7, alpha=0.6)
    _draw_legend(axes)
    return png(plot)


def _draw_legend(axes: "Axes") -> None:
    """Names above the plot, as many beside each other as there is room for."""
    handles, names = axes.get_legend_handles_labels()
    longest = max(map(len, names), default=1)
    ncols = max(1, min(len(names), _LEGEND_CHARACTERS // (longest + 5)))
    figure = axes.get_figure(root=True)
    assert figure is not None  # the axes are those of a plot
    figure.legend(handles, names, frameon=False, fontsize=9, ncols=ncols, loc="outside upper right", columnspacing=1.0)

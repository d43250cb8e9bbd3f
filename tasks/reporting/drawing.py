"""What all plots share: one fixed size and style, an opaque light ground, colours that keep their meaning.

So a plot reads the same on a light and on a dark page; it carries no time and no version: with the same libraries,
equal figures give equal bytes. Blue is chosen or after, orange is rejected or before, grey is neither.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tasks.reporting.summary import Histogram

SIZE, DPI = (6.4, 3.4), 130
GROUND, INK, FAINT = "#fcfcfa", "#24292f", "#d8dade"
BLUE, ORANGE, GREY = "#2f6db3", "#d9762b", "#8a929c"
_BINS = 24


def histogram(axes: "Axes", series: "Mapping[str, Histogram]", colours: Mapping[str, str]) -> None:
    """Counts of pairs by value, one filled outline a series."""
    from matplotlib.ticker import MaxNLocator

    bounds = edges([value for each in series.values() for value, _ in each])
    width = bounds[1] - bounds[0]
    for name, values in series.items():
        counts = [0] * (len(bounds) - 1)
        for value, count in values:
            counts[min(len(counts) - 1, int((value - bounds[0]) / width))] += count
        colour = colours.get(name, GREY if len(series) > 1 else BLUE)
        axes.stairs(counts, bounds, fill=True, color=colour, alpha=0.35 if len(series) > 1 else 0.8)
        axes.stairs(counts, bounds, color=colour, linewidth=1.4, label=name)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))


def edges(values: Sequence[float]) -> list[float]:
    """Edges of equal bins over the values; whole numbers get bins of whole width."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if all(float(value).is_integer() for value in values):
        width = max(1, math.ceil((high - low + 1) / _BINS))
        count = max(3, math.ceil((high - low + 1) / width))
        return [low + width * place for place in range(count + 1)]
    span = (high - low) or 1.0
    return [low + span * place / _BINS for place in range(_BINS + 1)]


def canvas(size: tuple[float, float] = SIZE) -> "tuple[Figure, Axes]":
    """An empty plot, its size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, facecolor=GROUND, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=GROUND)
    styled(axes)
    return figure, axes


def panels(count: int, columns: int = 2) -> "tuple[Figure, list[Axes]]":
    """Small plots in rows of `columns`, read from left to right; each half the height of a plot of its own."""
    figure, _ = canvas((SIZE[0], 0.6 * SIZE[1] * math.ceil(count / columns) + 0.2))
    figure.clear()
    grid = figure.subplots(math.ceil(count / columns), min(count, columns), squeeze=False)
    drawn: list[Axes] = list(grid.ravel())
    for axes in drawn[:count]:
        styled(axes)
    for axes in drawn[count:]:
        axes.set_axis_off()
    return figure, drawn[:count]


def styled(axes: "Axes") -> None:
    """Give axes the style of all plots."""
    axes.set_facecolor(GROUND)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(INK)
        axis.label.set_fontsize(10)


def png(figure: "Figure") -> bytes:
    """The figure's bytes."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_offset_text().set_visible(False)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", facecolor=GROUND, metadata={"Software": None})
    return sink.getvalue()


def legend(axes: "Axes") -> None:
    """Names of the series in one line above the plot, where no figure can lie under them."""
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1)


def shared_legend(figure: "Figure") -> None:
    """Names of the series above all panels; every panel has the same."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, ncols=2, loc="outside upper right")

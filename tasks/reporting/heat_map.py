"""The map of a score by depth and length, as SVG on a light and on a dark ground: a cell for each pair of both.

A cell has its mean in per cent and the number of its questions; the darker it is, the higher the mean. Two models stand
side by side. A map of one length or of one depth is left out: the plot by the other shows as much, with intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.evaluation.compare import EvaluationRow
from tasks.reporting.evaluation_plots import both_grounds
from tasks.reporting.plots import BLUE, FAINT, GROUND, INK, SIZE, new_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DARKEST = 0.55  # opacity of a cell at 100%: letters on it stay readable on both grounds
_CELL = 0.62  # inches
_LABELS = 1.4  # inches for names


@dataclass(frozen=True, slots=True)
class Cell:
    """The questions at one depth of one length: how many have a score, and the mean; None where none has."""

    length: int
    depth: float
    value: float | None
    n: int


def heat_map(
    before: Sequence[EvaluationRow], after: Sequence[EvaluationRow] | None, metric: str
) -> dict[str, str] | None:
    """The map of one suite's rows: {"light", "dark"}. None where their groups have not two depths and two lengths.

    The rows are of one suite; `after` are those of the second model.
    """
    models = {"before": heat_cells(before, metric)}
    if after is not None:
        models["after"] = heat_cells(after, metric)
    lengths = sorted({cell.length for cell in models["before"]})
    depths = sorted({cell.depth for cell in models["before"]})
    if len(lengths) < 2 or len(depths) < 2:
        return None
    width = max(SIZE[0], _LABELS + _CELL * len(lengths) * len(models))
    figure, _ = new_plot((width, _LABELS + 0.8 * _CELL * len(depths)))
    figure.clear()
    grid = figure.subplots(1, len(models), squeeze=False, sharey=True)
    for axes, (name, cells) in zip(grid[0], models.items(), strict=True):
        _draw(axes, cells, lengths, depths)
        if len(models) > 1:
            axes.set_title(name, fontsize=10, color=INK, loc="left")
    grid[0][0].set_yticks(range(len(depths)), [f"{100 * depth:g}" for depth in depths])
    grid[0][0].set_ylabel("depth (%)", fontsize=10, color=INK)
    return both_grounds(figure)


def heat_cells(rows: Sequence[EvaluationRow], metric: str) -> list[Cell]:
    """The cells of rows whose groups have a depth and a length, by length and depth."""
    scores: dict[tuple[int, float], list[float]] = {}
    for row in rows:
        if "depth" in row.groups and "length" in row.groups:
            cell = scores.setdefault((int(row.groups["length"]), float(row.groups["depth"])), [])
            score = row.scores.get(metric)
            if score is not None:
                cell.append(score)
    cells = []
    for (length, depth), values in sorted(scores.items()):
        cells.append(Cell(length, depth, sum(values) / len(values) if values else None, len(values)))
    return cells


def _draw(axes: "Axes", cells: Sequence[Cell], lengths: Sequence[int], depths: Sequence[float]) -> None:
    from matplotlib.patches import Rectangle

    columns: Mapping[int, int] = {length: place for place, length in enumerate(lengths)}
    rows: Mapping[float, int] = {depth: place for place, depth in enumerate(depths)}
    for cell in cells:
        x, y = columns[cell.length], rows[cell.depth]
        opacity = _DARKEST * (cell.value or 0.0)
        colours: dict[str, Any] = {"facecolor": (BLUE, opacity), "edgecolor": FAINT}
        axes.add_patch(Rectangle((x - 0.48, y - 0.47), 0.96, 0.94, linewidth=0.8, **colours))
        value = "–" if cell.value is None else f"{100 * cell.value:.0f}"
        axes.text(x, y - 0.12, value, ha="center", va="center", fontsize=10, color=INK)
        axes.text(x, y + 0.24, f"n = {cell.n}", ha="center", va="center", fontsize=6.5, color=INK)
    axes.set_facecolor(GROUND)
    axes.set_xlim(-0.5, len(lengths) - 0.5)
    axes.set_ylim(len(depths) - 0.5, -0.5)
    axes.set_xticks(range(len(lengths)), [length_name(length) for length in lengths])
    axes.set_xlabel("length (tokens)", fontsize=10, color=INK)
    axes.tick_params(length=0, colors=INK, labelsize=9)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)


def length_name(length: int) -> str:
    """A length as people write it: 4096 as "4k", 1048576 as "1M"."""
    for size, letter in ((1 << 20, "M"), (1 << 10, "k")):
        if length >= size and length % size == 0:
            return f"{length // size}{letter}"
    return f"{length:,}"

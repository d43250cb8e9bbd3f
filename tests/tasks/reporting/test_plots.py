"""Plots: the same bytes for the same figures, an opaque ground, and nothing drawn that is not there."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.reporting.plots import comparison_plot, dataset_plots, histogram_plot, metric_name, subem_plot
from tasks.reporting.summary import SummaryTally


def bucket(name: str, before: float | None, after: float | None) -> dict[str, Any]:
    def figures(value: float | None) -> dict[str, Any]:
        low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
        return {"sub_em": {"value": value, "low": low, "high": high, "n": 9}}

    return {"name": name, "questions": 9, "before": figures(before), "after": after and figures(after)}


BUCKETS = [bucket("0-640", 0.4, 0.6), bucket("641-768", 0.3, 0.5), bucket("769-", 0.2, 0.4)]


def test_equal_figures_give_equal_bytes_without_time_or_version() -> None:
    series = {"rejected": ((0.1, 3), (0.4, 5)), "chosen": ((0.5, 2), (0.9, 6))}
    image = histogram_plot(series, "reward")
    assert image == histogram_plot(series, "reward")
    assert b"Software" not in image
    assert b"tIME" not in image


@pytest.mark.parametrize(
    "draw",
    [
        lambda: histogram_plot({"pairs": ((0.5, 10),)}, "margin"),
        lambda: histogram_plot({"pairs": ((1200, 1), (31744, 2))}, "prompt length (tokens)"),
        lambda: subem_plot({"greedy": {"value": 0.0, "n": 3}, "mbr": None}),
        lambda: comparison_plot(BUCKETS, "sub_em"),
        lambda: comparison_plot([bucket("0-640", 0.0, None)], "sub_em"),
    ],
)
def test_every_plot_has_an_opaque_light_ground(draw: Callable[[], bytes]) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(draw())).convert("RGBA"))
    assert (pixels[..., 3] == 255).all()
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1], :3]
    assert (corners > 240).all()
    assert pixels[..., :3].std() > 5  # something is drawn on it


def test_a_metric_without_a_value_has_no_plot() -> None:
    assert comparison_plot([bucket("0-640", None, None)], "sub_em") is None
    assert comparison_plot(BUCKETS, "rouge_l") is None
    assert comparison_plot([], "sub_em") is None


def test_without_a_score_there_is_nothing_to_plot() -> None:
    nothing = {"accuracy": None, "low": None, "high": None, "pairs": 0}
    agreement = {"dimensions": {"a": nothing, "b": nothing}, "mean": nothing, "leave_one_out": {"a": nothing}}
    summary = replace(SummaryTally({}).summary(), agreement=agreement)
    assert dataset_plots(summary) == {}
    half = {**agreement, "mean": {"accuracy": 0.5, "low": 0.4, "high": 0.6, "pairs": 3}}
    assert list(dataset_plots(replace(summary, agreement=half))) == ["agreement"]


def test_metrics_have_names_that_people_write() -> None:
    names = {name: metric_name(name) for name in ("sub_em", "token_f1", "rouge_l", "mbr_sub_em")}
    assert names == {
        "sub_em": "SubEM",
        "token_f1": "Token F1",
        "rouge_l": "ROUGE-L",
        "mbr_sub_em": "MBR SubEM",
    }

"""The table and the plot of a comparison: what stands in a row, what is left out, and which plot is drawn."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib.image
import pytest

from tasks.reporting.variants import brief_tables, shared_figures, variant_rows, variants_markdown, variants_plot

PICKS = {"greedy": 0.5, "random": 0.4, "mbr": 0.6, "oracle": 0.9, "chosen": 0.625, "rejected": 0.25}


def row(values: Sequence[Any], **changes: Any) -> dict[str, Any]:
    return {
        "values": list(values),
        "value_names": list(map(str, values)),
        "plan_id": "p",
        "dataset": "d",
        "questions": 1200,
        "pairs": 1100,
        "drops": {"tie": 100},
        "subem": {
            name: {"value": value, "low": value - 0.02, "high": value + 0.02, "n": 1200}
            for name, value in PICKS.items()
        },
        "gain": {"value": 0.031, "low": -0.01, "high": 0.07, "n": 1200},
        "agreement": {"accuracy": 0.875},
        "calls": {"total": 20400, "new": 19200},
        "tokens": {"prompt": 9_990_000, "completion": 110_000},
        "cost": 0.0,
        "model": None,
        **changes,
    }


def comparison(*rows: dict[str, Any], keys: Sequence[str] = ("sampling.samples",), numeric: bool = True) -> Any:
    variations = [{"key": key, "name": key.rpartition(".")[2], "numeric": numeric} for key in keys]
    return {"recipe": "test", "variations": variations, "currency": "USD", "rows": list(rows)}


def size_of(image: bytes) -> tuple[int, int]:
    pixels = matplotlib.image.imread(io.BytesIO(image), format="png")
    assert pixels.shape[2] == 3 or pixels[..., 3].min() == 1.0  # opaque
    return pixels.shape[1], pixels.shape[0]


def test_a_row_holds_quality_calls_and_tokens_and_no_empty_column() -> None:
    columns, rows = variant_rows(comparison(row([8]), row([16])))
    assert dict(zip(columns, rows[0], strict=True)) == {
        "samples": "8",
        "questions": "1,200",
        "pairs": "1,100",
        "greedy": "50.0",
        "random": "40.0",
        "best": "60.0",
        "gain": "—",
        "oracle": "90.0",
        "chosen": "62.5",
        "rejected": "25.0",
        "agrees": "87.5",
        "calls": "20,400",
        "new": "19,200",
        "tokens": "10.1M",
    }
    assert dict(zip(columns, rows[1], strict=True))["gain"] == "+3.1 ±4.0"
    assert variants_markdown(comparison(row([8]))).startswith("| samples | questions | pairs | greedy |")


def test_prices_and_trained_models_add_columns() -> None:
    model = {"before": {"sub_em": {"value": 0.5}}, "after": {"sub_em": {"value": 0.75}}}
    columns, rows = variant_rows(comparison(row([8], cost=1.234, model=model), row([16])))
    first = dict(zip(columns, rows[0], strict=True))
    second = dict(zip(columns, rows[1], strict=True))
    assert (first["cost USD"], first["before"], first["after"]) == ("1.23", "50.0", "75.0")
    assert (second["cost USD"], second["before"]) == ("0.00", "—")


def test_a_missing_figure_is_a_dash_and_never_a_number() -> None:
    without = row([16], subem=dict.fromkeys(PICKS), gain=None, agreement=None)
    columns, rows = variant_rows(comparison(row([8]), row([12]), without))
    second = dict(zip(columns, rows[2], strict=True))
    assert {second[name] for name in ("greedy", "chosen", "oracle", "gain", "agrees")} == {"—"}


def test_what_all_variants_share_is_left_out_of_the_brief_table() -> None:
    same = comparison(row([8]), row([16]))
    assert shared_figures(same) == {"questions": "1,200", "greedy": "50.0", "random": "40.0", "oracle": "90.0"}
    assert not {"questions", "greedy", "random", "oracle"} & set(variant_rows(same, brief=True)[0])
    differing = comparison(row([8]), row([16], questions=600))
    assert "questions" in variant_rows(differing, brief=True)[0]


def test_a_table_that_is_too_wide_is_cut_in_two_between_quality_and_calls() -> None:
    pair = comparison(row([8]), row([16]))
    assert brief_tables(pair, 200) == [variant_rows(pair, brief=True)]
    quality, calls = brief_tables(pair, 60)
    assert quality[0][0] == calls[0][0] == "samples"
    assert calls == (["samples", "calls", "new", "tokens"], [[n, "20,400", "19,200", "10.1M"] for n in ("8", "16")])


@pytest.mark.medium
def test_numbers_are_drawn_as_lines_and_names_as_bars() -> None:
    lines = variants_plot(comparison(row([8]), row([16]), row([32])))
    bars = variants_plot(comparison(*(row([f"name {n}"]) for n in range(6)), numeric=False))
    grid = comparison(row([8, "a"]), row([8, "b"]), row([16, "a"]), keys=("sampling.samples", "x.y"))
    assert lines is not None and bars is not None
    assert size_of(lines)[0] == size_of(bars)[0]
    assert size_of(bars)[1] > size_of(lines)[1]  # a bar's height a variant
    assert variants_plot(grid) is not None
    assert lines == variants_plot(comparison(row([8]), row([16]), row([32])))


@pytest.mark.parametrize("numeric", [True, False])
def test_without_references_there_is_no_plot(numeric: bool) -> None:
    without = dict.fromkeys(PICKS)
    assert variants_plot(comparison(row([8], subem=without), row([16], subem=without), numeric=numeric)) is None
    some = comparison(row([8], subem=without), row([16]), numeric=numeric)
    assert variants_plot(some) is not None  # a variant without a figure is left out of it

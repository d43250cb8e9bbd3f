"""report.html: figures and pairs as one page that stands alone. Jinja escapes every value; plots are data URIs."""

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from tasks.reporting.agreement_tables import (
    agreement_rows,
    bias_rows,
    expected_rows,
    gain_rows,
    length_rows,
    saved_rows,
)
from tasks.reporting.plots import PLOTS, metric_name
from tasks.reporting.summary import SUBEM, Summary
from tasks.reporting.tables import Rows

if TYPE_CHECKING:
    from jinja2 import Template

_TITLES = {"by-length": "Before and after by prompt length, with 95% intervals", **PLOTS}


def report_page(
    report: Mapping[str, Any],
    summary: Summary,
    plots: Mapping[str, bytes],
    samples: Sequence[Mapping[str, Any]],
    data_folder: str,
) -> str:
    """The page of a report; `data_folder` is the dataset's path in the store, to which links are relative."""
    images = {
        name: {"title": _TITLES[name], "source": f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}"}
        for name, image in plots.items()
    }
    model = report["trained"]["model"] if report["trained"] else None
    return _template().render(
        report=report,
        summary=summary,
        images=images,
        samples=samples,
        tiles=_tiles(report),
        comparison=_comparison(report["model"]),
        subem_names=[name for name in SUBEM if report["subem"].get(name)],
        score_rows=_score_rows(report["scores"]),
        agreement=agreement_rows(report["agreement"]),
        gains=gain_rows(report["agreement"]),
        judging=[each for each in _judging(report["judging"]) if each[1]],
        card=f"../../{data_folder}/README.md",
        manifest=f"../../{data_folder}/manifest.json",
        model_card=f"../../{model}/README.md" if model else None,
    )


def _tiles(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Headline figures: (what, figure, what to know about it)."""
    dropped = sum(report["drops"].values())
    made = sum(each["made"] for each in report["calls"].values())
    reused = sum(each["reused"] for each in report["calls"].values())
    cost, paired = report["cost"], report["paired_questions"]
    several = f"{paired:,} of " if paired != report["pairs"] else ""
    tiles = [
        ("Pairs", f"{report['pairs']:,}", f"from {several}{report['questions']:,} questions, {dropped:,} dropped"),
        ("Model calls", f"{made:,}", f"made in this run; {reused:,} more from the ledger"),
        ("Cost", f"{cost['amount']:,.2f} {cost['currency']}", f"{cost['reused']:,.2f} saved by the ledger"),
        ("Time", _duration(sum(report["seconds"].values())), "in all stages"),
    ]
    before, after = report["model"]["before"], report["model"]["after"]
    metric = next((name for name, each in (before or {}).items() if each["value"] is not None), None)
    if before and after and metric and after[metric]["value"] is not None:
        change = 100 * (after[metric]["value"] - before[metric]["value"])
        figures = f"{100 * before[metric]['value']:.1f} → {100 * after[metric]['value']:.1f}"
        tiles.insert(0, (f"{metric_name(metric)}, held out", figures, f"{change:+.1f} points by training"))
    return tiles


def _comparison(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of metrics; empty when there was no evaluation."""
    rows = []
    for metric, before in (model["before"] or {}).items():
        after = (model["after"] or {}).get(metric)
        change = (model["difference"] or {}).get(metric)
        rows.append(
            {
                "metric": metric_name(metric),
                "before": _interval(before),
                "after": _interval(after),
                "change": _interval(change, signed=True),
                "n": f"{before['n']:,}",
            }
        )
    return rows


def _score_rows(scores: Mapping[str, Any]) -> Rows:
    """Mean and spread of each scorer, and its nulls by reason."""
    rows = [
        [
            name,
            *(
                "—" if each[figure] is None else f"{each[figure]:.4g}"
                for figure in ("mean", "deviation", "low", "high")
            ),
            f"{each['n']:,}",
            ", ".join(f"{count:,} {reason}" for reason, count in each.get("nulls", {}).items())
            or f"{each['missing']:,}",
        ]
        for name, each in scores.items()
    ]
    return ["scorer", "mean", "deviation", "lowest", "highest", "answers", "without a score"], rows


def _judging(judging: Mapping[str, Any]) -> list[Rows]:
    return [length_rows(judging), bias_rows(judging), expected_rows(judging), saved_rows(judging)]


def _interval(figures: Mapping[str, Any] | None, signed: bool = False) -> tuple[str, str]:
    """A value in per cent, and its interval; dashes for one that is missing."""
    if figures is None or figures["value"] is None:
        return "—", ""
    value, low, high = (format(100 * figures[name], "+.1f" if signed else ".1f") for name in ("value", "low", "high"))
    return value, f"[{low}, {high}]"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tasks", "reporting"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["metric"] = metric_name
    environment.filters["decimal"] = lambda value: "—" if value is None else f"{value:.4g}"
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    environment.filters["duration"] = _duration
    return environment.get_template("report.html.jinja")

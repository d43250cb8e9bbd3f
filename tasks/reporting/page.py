"""report.html: figures and a few pairs as one page that stands alone.

Its style and plots are in it, it loads nothing and runs nothing, and Jinja escapes every value.
"""

import base64
import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from infra.store import Store
from tasks.questions.chat import prompt_text
from tasks.records.table import rows_in
from tasks.reporting.cascade_tables import cascade_rows
from tasks.reporting.dataset_card import shortened
from tasks.reporting.html_templates import html_environment
from tasks.reporting.plots import PLOTS, metric_name
from tasks.reporting.shard_figures import SIDES
from tasks.reporting.subem import SUBEM
from tasks.reporting.tables import (
    NOTHING,
    Rows,
    agreement_rows,
    bias_rows,
    bill_rows,
    count_reasons,
    embedded_rows,
    expected_rows,
    gain_rows,
    length_rows,
    saved_rows,
    usage_words,
)
from tasks.reporting.verdict_tables import control_rows

if TYPE_CHECKING:
    from jinja2 import Template

_TITLES = {"by-length": "Before and after by prompt length, with 95% intervals", **PLOTS}
_PAIR_COLUMNS = (
    "example_id",
    "question",
    "references",
    "language",
    "prompt",
    "chosen",
    "rejected",
    "chosen_reward",
    "rejected_reward",
    "chosen_scores",
    "rejected_scores",
    "prompt_tokens",
)
_AROUND_REFERENCE = 160  # characters of the prompt on each side of a reference
_ANSWER_CHARACTERS = 700  # of an answer


def report_page(
    report: Mapping[str, Any], plots: Mapping[str, bytes], pairs: Sequence[Mapping[str, Any]], data_folder: str
) -> str:
    """The page of a report. `pairs` are those of `sample_pairs`; `data_folder` is the dataset's path in the store, to
    which links are relative."""
    images = {}
    for name, image in plots.items():
        source = f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}"
        images[name] = {"title": _TITLES[name], "source": source}
    judging = report["judging"]
    judge_tables = [
        length_rows(judging),
        bias_rows(judging),
        expected_rows(judging),
        saved_rows(judging),
        control_rows(judging),
        cascade_rows(judging),
        embedded_rows(judging),
    ]
    model = report["trained"]["model"] if report["trained"] else None
    return _template().render(
        report=report,
        images=images,
        pairs=pairs,
        tiles=_tiles(report),
        comparison=_comparison(report["model"]),
        subem_names=[name for name in SUBEM if report["subem"].get(name)],
        score_rows=_score_rows(report["scores"]),
        agreement=agreement_rows(report["agreement"]),
        gains=gain_rows(report["agreement"]),
        bill=bill_rows(report["bill"]),
        usage=usage_words(report["bill"]),
        judge_tables=[judge_table for judge_table in judge_tables if judge_table[1]],
        card=f"../../{data_folder}/README.md",
        manifest=f"../../{data_folder}/manifest.json",
        model_card=f"../../{model}/README.md" if model else None,
    )


def sample_pairs(store: Store, folder: str, manifest: Mapping[str, Any], count: int = 4) -> list[dict[str, Any]]:
    """The first training pairs of the dataset in `folder`, one of each of `count` questions, texts shortened."""
    for file in manifest["files"]:
        if (file.get("config"), file.get("split")) == ("pairs", "train"):
            return _first_pairs(store, f"{folder}/{file['path']}", count)
    return []


def _first_pairs(store: Store, path: str, count: int) -> list[dict[str, Any]]:
    pairs: list[dict[str, Any]] = []
    with store.open(path) as file:
        batches = pq.ParquetFile(file).iter_batches(count, columns=list(_PAIR_COLUMNS))
        rows = itertools.chain.from_iterable(map(rows_in, batches))
        for _, rows_of_question in itertools.islice(itertools.groupby(rows, key=lambda row: row["example_id"]), count):
            pairs.append(_short_pair(next(rows_of_question)))
    return pairs


def excerpt(prompt: str, references: Sequence[str]) -> str:
    """The part of a long prompt around the first reference in it; without one, its beginning and its end."""
    lowered = prompt.lower()
    places = []
    for reference in references:
        place = lowered.find(reference.lower())
        if len(reference) > 2 and place >= 0:  # a reference of one or two characters occurs by chance
            places.append(place)
    if not places or len(prompt) <= 2 * _AROUND_REFERENCE:
        return shortened(prompt, 2 * _AROUND_REFERENCE)
    place = min(places)
    start, end = max(0, place - _AROUND_REFERENCE), min(len(prompt), place + _AROUND_REFERENCE)
    return f"{'[…] ' if start else ''}{prompt[start:end].strip()}{' […]' if end < len(prompt) else ''}"


def _short_pair(row: Mapping[str, Any]) -> dict[str, Any]:
    """A pair as the page shows it."""
    prompt = prompt_text(row["prompt"], (), row["language"])
    answers = []
    for side in SIDES:
        text = shortened(row[side][-1]["content"], _ANSWER_CHARACTERS)
        answers.append({"side": side, "text": text, "reward": row[f"{side}_reward"], "scores": row[f"{side}_scores"]})
    return {
        "question": row["question"],
        "references": row["references"],
        "prompt": excerpt(prompt, row["references"]),
        "prompt_characters": len(prompt),
        "prompt_tokens": row["prompt_tokens"],
        "answers": answers,
    }


def _tiles(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Headline figures: (name, figure, note)."""
    dropped = sum(report["drops"].values())
    made = reused = 0
    for counts in report["calls"].values():
        made += counts["made"]
        reused += counts["reused"]
    cost, paired = report["cost"], report["paired_questions"]
    several = f"{paired:,} of " if paired != report["pairs"] else ""
    tiles = [
        ("Pairs", f"{report['pairs']:,}", f"from {several}{report['questions']:,} questions, {dropped:,} dropped"),
        ("Model calls", f"{made:,}", f"made in this run; {reused:,} more from the ledger"),
        ("Cost", f"{cost['amount']:,.2f} {cost['currency']}", f"{cost['reused']:,.2f} saved by the ledger"),
        ("Time", _duration(sum(report["seconds"].values())), "in all stages"),
    ]
    before, after = report["model"]["before"], report["model"]["after"]
    metric = _first_metric(before or {})
    if before and after and metric and after[metric]["value"] is not None:
        old, new = 100 * before[metric]["value"], 100 * after[metric]["value"]
        change = 100 * (after[metric]["value"] - before[metric]["value"])
        name = f"{metric_name(metric)}, held out"
        tiles.insert(0, (name, f"{old:.1f} → {new:.1f}", f"{change:+.1f} points by training"))
    return tiles


def _first_metric(figures: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first metric that has a value."""
    for metric, figure in figures.items():
        if figure["value"] is not None:
            return metric
    return None


def _comparison(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of metrics; empty when there was no evaluation."""
    rows = []
    for metric, before in (model["before"] or {}).items():
        after = (model["after"] or {}).get(metric)
        change = (model["difference"] or {}).get(metric)
        rows.append(
            {
                "metric": metric_name(metric),
                "before": _value_and_interval(before),
                "after": _value_and_interval(after),
                "change": _value_and_interval(change, "+.1f"),
                "n": f"{before['n']:,}",
            }
        )
    return rows


def _score_rows(scores: Mapping[str, Any]) -> Rows:
    """Mean and spread of each scorer, and its nulls by reason."""
    rows = []
    for scorer, figures in scores.items():
        nulls = count_reasons(figures.get("nulls", {}))
        spread = [_decimal(figures[name]) for name in ("mean", "deviation", "low", "high")]
        rows.append([scorer, *spread, f"{figures['n']:,}", nulls or f"{figures['missing']:,}"])
    return ["scorer", "mean", "deviation", "lowest", "highest", "answers", "without a score"], rows


def _value_and_interval(figure: Mapping[str, Any] | None, form: str = ".1f") -> tuple[str, str]:
    """A value in per cent, and its interval; a dash for one that is missing."""
    if figure is None or figure["value"] is None:
        return NOTHING, ""
    return format(100 * figure["value"], form), f"[{100 * figure['low']:{form}}, {100 * figure['high']:{form}}]"


def _decimal(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


@cache
def _template() -> "Template":
    environment = html_environment()
    environment.filters["metric"] = metric_name
    environment.filters["decimal"] = _decimal
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    environment.filters["duration"] = _duration
    return environment.get_template("report.html.jinja")

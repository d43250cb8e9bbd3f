"""report.html of an evaluation: one page that stands alone, light or dark as its reader's device is.

Its style and plots are in it, it loads nothing and runs nothing, and Jinja escapes every value: questions, references
and answers are texts of others.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from tasks.reporting.comparison_tables import (
    headline_figures,
    headline_metric,
    macro_rows,
    metric_rows,
    p_words,
    part_rows,
    word_lines,
)
from tasks.reporting.dataset_card import shortened
from tasks.reporting.html_templates import html_environment
from tasks.reporting.plots import metric_name
from tasks.reporting.tables import NOTHING, Rows

if TYPE_CHECKING:
    from jinja2 import Template

_ANSWER_CHARACTERS, _QUESTION_CHARACTERS = 1600, 600
HEAT_MAP = "by-depth-and-length"
_TITLES = {
    "by-length": "by prompt length",
    HEAT_MAP: "by depth and length",
    "by-depth": "by depth in the context",
    "by-position": "by position",
    "by-kind": "by kind of question",
    "by-task": "by task",
    "by-language": "by language",
}
_COUNTS = {
    "made": "made",
    "reused": "reused",
    "failed": "failed",
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "completion tokens",
    "reused_prompt_tokens": "prompt tokens saved",
    "reused_completion_tokens": "completion tokens saved",
    "cached_prompt_tokens": "prompt tokens from the server's cache",
}

Image = dict[str, str]  # "light" and "dark": SVG text, then data URLs


@dataclass(frozen=True, slots=True)
class Several:
    """What a report says of several models. `figures` go into report.json; the rest is shown on the page."""

    figures: Mapping[str, Any]
    about: str
    tables: Sequence[Rows]
    notes: Sequence[str]
    plot: Image | None
    plot_title: str


def evaluation_page(
    report: Mapping[str, Any], several: Several | None, plots: Mapping[str, Mapping[str, Image]]
) -> str:
    """The page of an evaluation report (`evaluation_report.py`).

    `several`: what the report says of several models, or None. `plots`: those of each suite, by name.
    """
    suites = []
    for label, outcome in report["suites"].items():
        suites.append(_suite(label, outcome, report["changed"].get(label, []), plots.get(label, {})))
    if several and several.plot:
        several = replace(several, plot=_sources(several.plot))
    return _template().render(
        report=report,
        several=several,
        suites=suites,
        tiles=_tiles(report),
        overlap=_overlap(report["overlap"]),
        calls=_call_rows(report["calls"]),
    )


def _suite(
    label: str, outcome: Mapping[str, Any], changed: Sequence[Mapping[str, Any]], plots: Mapping[str, Image]
) -> dict[str, Any]:
    metric = headline_metric(outcome)
    images = []
    if metric is not None:
        for name, image in plots.items():
            title = f"{metric_name(metric)} {_TITLES.get(name, name.replace('-', ' '))}"
            images.append((title if name == HEAT_MAP else f"{title}, with 95% intervals", _sources(image)))
    return {
        "label": label,
        "questions": outcome["questions"],
        "cut": outcome["cut"],
        "compared": outcome["after"] is not None,
        "metric": metric_name(metric) if metric else "",
        "metrics": metric_rows(outcome),
        "words": word_lines(outcome),
        "macro": macro_rows(outcome),
        "parts": part_rows(outcome, metric) if metric else ([], []),
        "images": images,
        "changed": [_changed_question(question) for question in changed],
    }


def _changed_question(question: Mapping[str, Any]) -> dict[str, Any]:
    sides = []
    for side in ("before", "after"):
        score = question[side]["score"]
        answer = shortened(question[side]["answer"], _ANSWER_CHARACTERS)
        sides.append({"name": side, "answer": answer, "score": f"{100 * score:.0f}%"})
    return {
        "example_id": question["example_id"],
        "question": shortened(question["question"], _QUESTION_CHARACTERS),
        "references": [shortened(reference, _QUESTION_CHARACTERS) for reference in question["references"]],
        "sides": sides,
    }


def _tiles(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The figures at the top: the headline of the first suite, the change, what could be seen."""
    tiles = []
    for label, outcome in list(report["suites"].items())[:1]:
        metric = headline_metric(outcome)
        if metric is None:
            continue
        figures = headline_figures(outcome, metric)
        before, after, change = figures["before"], figures["after"], figures["difference"]
        assert before is not None  # the metric has a value
        tasks = figures.get("tasks")
        name = f"{metric_name(metric)}, {label}{f', mean of {tasks} tasks' if tasks else ''}"
        main = after if after and after["value"] is not None else before
        note = f"{100 * before['value']:.1f} before" if main is after else f"{before['n']:,} questions"
        tiles.append((name, f"{100 * main['value']:.1f}%", note))
        if change and change["value"] is not None:
            low, high = (f"{100 * change[end]:+.1f}" for end in ("low", "high"))
            tiles.append(("change", f"{100 * change['value']:+.1f} points", f"95% interval {low} to {high}"))
            tiles.append(("chance of it between equal models", p_words(change), change["test"]))
            seen = f"{100 * change['detectable']:.0f} points" if change["detectable"] else NOTHING
            tiles.append(("smallest change that could be seen", seen, f"{change['n']:,} questions"))
    return tiles


def _overlap(overlap: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What is said of questions that were trained on."""
    if overlap is None:
        return None
    words = (
        f"{overlap['leaked']:,} of {overlap['questions']:,} questions were trained on, measured by n-grams of 13 words "
        f"or characters against {overlap['rows']:,} training rows. Of an evaluation context, the training row that "
        f"shares most with it has {100 * overlap['context_mean']:.1f}% on average, and at most "
        f"{100 * overlap['context_most']:.1f}%."
    )
    rows = []
    for leak in overlap["leaks"][:10]:
        shares = [f"{100 * leak[name]:.0f}%" for name in ("question", "context")]
        rows.append([leak["example_id"], leak["row_id"], *shares])
    return {"words": words, "rows": (["question", "training row", "of the question", "of the context"], rows)}


def _call_rows(calls: Mapping[str, Mapping[str, int]]) -> Rows:
    """Calls by kind; columns that are 0 for all of them are left out."""
    columns = []
    for name in _COUNTS:
        if name == "made" or any(counts.get(name) for counts in calls.values()):
            columns.append(name)
    rows = []
    for kind, counts in calls.items():
        rows.append([kind, *(f"{counts.get(name, 0):,}" for name in columns)])
    return ["calls", *(_COUNTS[name] for name in columns)], rows


def _sources(image: Image) -> Image:
    """The SVG texts as URLs that stand for them."""
    urls = {}
    for ground, svg in image.items():
        urls[ground] = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')}"
    return urls


@cache
def _template() -> "Template":
    return html_environment().get_template("evaluation.html.jinja")

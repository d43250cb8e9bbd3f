"""Tables of an evaluation: metrics before and after with what could be seen, macro averages, and every part.

Figures are in per cent, differences in points. An outcome is what `tasks.evaluation.compare` returned; those of earlier
versions have no tests, and the columns of tests are empty.
"""

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.evaluation.compare import parts_of
from tasks.evaluation.reward_bench import bench_rows
from tasks.reporting.plots import metric_name
from tasks.reporting.tables import NOTHING, Rows, count_reasons, markdown

_SUMMARY = {  # of suites: how people call the figure and write it
    "effective_length": ("Effective length", "{:,} tokens"),
    "length_controlled": ("Win rate at equal length", "{:.1%}"),
}

Outcome = Mapping[str, Any]
Figure = Mapping[str, Any] | None


def metric_rows(outcome: Outcome) -> Rows:
    """Every metric before and after, the change, its p, and the questions; of one model alone its score."""
    rows = []
    for metric, before in outcome["before"].items():
        after, change = _of(outcome, "after", metric), _of(outcome, "difference", metric)
        cells = [percent(before), percent(after), percent(change, "+.1f"), p_words(change)]
        rows.append([metric_name(metric), *cells, f"{before['n']:,}"])
    return _of_models(outcome, ["metric", "before", "after", "change", "p", "questions"], rows)


def word_lines(outcome: Outcome) -> list[str]:
    """For every metric what its questions can show, metrics of the same words in one line; and what has no score."""
    metrics_of_words: dict[str, list[str]] = {}
    for metric, figure in (outcome["difference"] or {}).items():
        if figure.get("words"):
            metrics_of_words.setdefault(figure["words"], []).append(metric_name(metric))
    lines = [f"{', '.join(metrics)}: {words}." for words, metrics in metrics_of_words.items()]
    for metric, before in outcome["before"].items():
        missing = _missing(before, _of(outcome, "after", metric))
        if missing:
            lines.append(f"{metric_name(metric)}, without a score: {missing}.")
    return [*lines, *_summary_lines(outcome.get("summary") or {})]


def _summary_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """A suite's figures of all questions together (`Suite.summary`)."""
    before, after = summary.get("before") or {}, summary.get("after")
    for name in dict.fromkeys([*before, *(after or {})]):
        label, form = _SUMMARY.get(name, (name.replace("_", " "), "{:g}"))
        words = []
        for figures, when in ((before, "" if after is None else " before"), (after or {}, " after")):
            if name in figures:
                words.append(("none" if figures[name] is None else form.format(figures[name])) + when)
        yield f"{label}: {', '.join(words)}."


def macro_rows(outcome: Outcome) -> Rows:
    """The macro averages of a suite's metrics; no rows where it has one task."""
    rows = []
    for by_metric in (outcome.get("macro") or {}).values():
        for metric, figure in by_metric.items():
            change = figure["difference"]
            cells = [percent(figure["before"]), percent(figure["after"]), percent(change, "+.1f"), p_words(change)]
            rows.append([metric_name(metric), *cells, f"{figure['tasks']:,}"])
    return _of_models(outcome, ["macro average", "before", "after", "change", "p", "tasks"], rows)


def part_rows(outcome: Outcome, metric: str) -> Rows:
    """A metric in every bucket, kind, task and group."""
    rows = []
    for what, part in _named_parts(outcome):
        change = _of(part, "difference", metric)
        cells = [percent(_of(part, "before", metric)), percent(_of(part, "after", metric)), percent(change, "+.1f")]
        rows.append([what, *cells, p_words(change, "p_corrected"), f"{part['questions']:,}"])
    return _of_models(outcome, [metric_name(metric), "before", "after", "change", "p, corrected", "questions"], rows)


def _of_models(outcome: Outcome, columns: list[str], rows: list[list[str]]) -> Rows:
    """Columns of two models without those that have nothing to say of one."""
    if outcome["after"] is not None:
        return columns, rows
    return [columns[0], "score", columns[-1]], [[*row[:2], row[-1]] for row in rows]


def several_rows(models: Sequence[Mapping[str, Any]]) -> Rows:
    """Every metric of several models (`several_figures`), and the change of each from the first model."""
    columns = ["metric", "model", "figure", "change", "p, corrected", "questions"]
    rows = []
    for label, by_metric in models[0]["suites"].items():
        for metric in by_metric:
            name = metric_name(metric) if len(models[0]["suites"]) == 1 else f"{label}: {metric_name(metric)}"
            for model in models:
                cell = model["suites"][label].get(metric)
                if cell is None:
                    continue
                change = cell["difference"]
                cells = [percent(cell["figure"]), percent(change, "+.1f"), p_words(change, "p_corrected")]
                rows.append([name, _model_words(model), *cells, f"{cell['figure']['n']:,}"])
                name = ""
    return columns, rows


def several_words(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the questions can show of each model's first metric."""
    lines = []
    for model in models[1:]:
        for by_metric in model["suites"].values():
            metric, cell = next(iter(by_metric.items()))
            if cell["difference"]:
                lines.append(f"{model['name']}, {metric_name(metric)}: {cell['difference']['words']}.")
    return lines


def choice_words(choice: Mapping[str, Any]) -> str:
    """How a checkpoint was chosen, in a sentence."""
    metric, checkpoints = metric_name(choice["metric"]), len(choice["curve"])
    return (
        f"Step {choice['step']:,} of {checkpoints} checkpoints has the highest {metric} on "
        f"{choice['development']:,} development questions. All figures of the table are of {choice['test']:,} other "
        "questions, which had no say in the choice."
    )


def _model_words(model: Mapping[str, Any]) -> str:
    return f"{model['name']} ({model['seeds']} seeds)" if model["seeds"] > 1 else str(model["name"])


def bench_table_rows(figures: Mapping[str, Any]) -> Rows:
    """The agreement of a reward with a bench, by kind, subset, length and scorer."""
    rows = []
    for what, name, figure in bench_rows(figures):
        missing = count_reasons(figure["missing"])
        label = "all sets" if what == "all" else f"{what.removesuffix('s')} {name}"
        rows.append([label, percent(figure), f"{figure['n']:,}", f"{figure['ties']:,}", missing])
    if figures["macro"] is not None:
        rows.insert(1, ["mean of subsets", f"{100 * figures['macro']:.1f}", "", "", ""])
    rows.insert(1, ["pairs in the right order", percent(figures["pairs"]), f"{figures['pairs']['n']:,}", "", ""])
    return ["reward bench", "right %", "sets", "ties", "left out"], rows


def evaluation_markdown(outcome: Outcome) -> str:
    """The tables of every suite, and in words what their questions can show, for the Prefect UI."""
    parts = []
    for label, of_suite in (outcome.get("suites") or {"": outcome}).items():
        lines = [f"**{html.escape(label)}**"] if label else []
        lines += [markdown(*metric_rows(of_suite)), *word_lines(of_suite)]
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts)


def headline_metric(outcome: Outcome) -> str | None:
    """The first metric that has a value; None where none has."""
    for metric, figure in outcome["before"].items():
        if figure["value"] is not None:
            return str(metric)
    return None


def headline_figures(outcome: Outcome, metric: str) -> Mapping[str, Figure]:
    """A metric "before", "after" and as "difference": the mean over the tasks where that is the suite's headline."""
    if outcome.get("average") == "tasks":
        for by_metric in (outcome.get("macro") or {}).values():
            return by_metric[metric]  # type: ignore[no-any-return]
    return {name: _of(outcome, name, metric) for name in ("before", "after", "difference")}


def percent(figure: Figure, form: str = ".1f") -> str:
    """A value in per cent and its interval."""
    if figure is None or figure.get("value") is None:
        return NOTHING
    values = (format(100 * figure[name], form) for name in ("value", "low", "high"))
    return "{} [{}, {}]".format(*values)


def p_words(figure: Figure, name: str = "p") -> str:
    """A p value as people write it."""
    p = (figure or {}).get(name)
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _named_parts(outcome: Outcome) -> Iterator[tuple[str, Outcome]]:
    names = {}
    for label, parts in (
        ("tokens", outcome["buckets"]),
        ("kind", outcome["kinds"]),
        ("task", outcome.get("tasks") or []),
        *(outcome.get("groups") or {}).items(),
    ):
        for part in parts:
            names[id(part)] = label
    for part in parts_of(outcome):
        if part["questions"] < outcome["questions"]:
            yield f"{names[id(part)]} {part['name'] or 'other'}", part


def _of(outcome: Outcome, side: str, metric: str) -> Figure:
    figure: Figure = (outcome.get(side) or {}).get(metric)
    return figure


def _missing(before: Mapping[str, Any], after: Figure) -> str:
    """How many questions have no score, by side and reason; empty where all have one."""
    texts = []
    for side, figure in (("before", before), ("after", after)):
        for reason, count in ((figure or {}).get("missing") or {}).items():
            texts.append(f"{count:,} {reason}" if after is None else f"{count:,} {reason} {side}")
    return ", ".join(texts)

"""The evaluation in a model's card: a table and the command in its text, the figures in its metadata for the hub.

The metadata are the hub's model-index, as huggingface_hub writes it (EvalResult). A model that is evaluated again gets
the new section in place of the old one.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import yaml

from infra.store import Store
from tasks.reporting.comparison_tables import macro_rows, metric_rows, word_lines
from tasks.reporting.plots import metric_name
from tasks.reporting.tables import markdown

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_START, _END = "<!-- evaluation by longmill -->", "<!-- end of the evaluation -->"
_SECTION = re.compile(rf"\n*{re.escape(_START)}.*?{re.escape(_END)}\n*", re.DOTALL)


def write_evaluation_to_card(
    store: Store, model: str, name: str, suites: Mapping[str, Any], command: str
) -> str | None:
    """Write the evaluation into README.md of a model's folder in the store; returns its path, None without a card.

    `suites`: what `tasks.evaluation.compare` returned, by suite, the model being "after".
    """
    path = f"{model}/README.md"
    if not store.exists(path):
        return None
    card = store.read(path).decode("utf-8")
    store.write(path, with_evaluation(card, name, suites, command).encode("utf-8", "replace"))
    return path


def with_evaluation(card: str, name: str, suites: Mapping[str, Any], command: str) -> str:
    """The text of a card with the evaluation of the model `name`."""
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard_data import eval_results_to_model_index

    parsed = ModelCard(card, ignore_metadata_errors=True)
    metadata: dict[str, Any] = parsed.data.to_dict()  # type: ignore[no-untyped-call]
    results = list(eval_results(suites))
    if results:
        metadata["model-index"] = eval_results_to_model_index(name, results)
    text = _SECTION.sub("\n\n", parsed.text).strip("\n")
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True).rstrip()
    return f"---\n{head}\n---\n{text}\n\n{_section(suites, command)}\n"


def eval_results(suites: Mapping[str, Any]) -> "Iterator[EvalResult]":
    """A result for each metric of each suite that has a value, in [0, 1]; macro averages where there are some."""
    from huggingface_hub import EvalResult

    for label, outcome in suites.items():
        figures = [(metric, metric_name(metric), figure) for metric, figure in (outcome["after"] or {}).items()]
        for by_metric in (outcome.get("macro") or {}).values():
            for metric, figure in by_metric.items():
                figures.append((f"macro_{metric}", f"{metric_name(metric)}, macro average", figure["after"] or {}))
        for metric, words, figure in figures:
            if figure.get("value") is None:
                continue
            yield EvalResult(
                task_type="text-generation",
                task_name="Text Generation",
                dataset_type=label or "held-out",
                dataset_name=label or "held-out questions",
                metric_type=metric,
                metric_name=words,
                metric_value=figure["value"],
                metric_args={"low": figure["low"], "high": figure["high"], "questions": figure["n"]},
            )


def _section(suites: Mapping[str, Any], command: str) -> str:
    lines = [_START, "", "## Evaluation", "", "In per cent, with 95% intervals over questions.", ""]
    for label, outcome in suites.items():
        if len(suites) > 1:
            lines += [f"### {label}", ""]
        lines += [markdown(*metric_rows(outcome)).rstrip(), ""]
        columns, rows = macro_rows(outcome)
        if rows:
            lines += [markdown(columns, rows).rstrip(), ""]
        for line in word_lines(outcome):
            lines.append(f"- {line}")
        lines.append("")
    lines += ["```bash", command, "```", "", _END]
    return "\n".join(lines)

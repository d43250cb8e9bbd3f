"""The model card: what was trained on what, how, and what the loss did. No date, no folder of a machine."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from infra.recipe.public import public_settings
from tasks.training.external import ExternalPairs, TrainingData, all_drops
from tasks.training.settings import RunConfig, epochs_in_words, epochs_of

_LOSS_TABLE_ROWS = 12
_COLUMNS = ("step", "loss", "margin", "grad_norm", "lr")


def model_card(
    config: RunConfig,
    data: TrainingData,
    base_revision: str,
    results: Mapping[str, Any],
    steps: Sequence[Mapping[str, Any]],
) -> str:
    """README.md of the model folder."""
    rows: list[str] = []
    for name, value in sorted(public_settings(config.settings.model_dump(mode="json")).items()):
        rows.append(f"| {name} | `{value}` |")
    histogram: list[str] = []
    for end, count in config.lengths.histogram:
        histogram.append(f"| {end:,} | {count:,} |")
    sections = [
        ["---", yaml.safe_dump(_metadata(config, data), sort_keys=True, allow_unicode=True).rstrip(), "---"],
        _summary(config, data, base_revision, results),
        ["", "![training](training.png)", "", "## Loss", "", *_loss_table(steps)],
        ["", "## Row lengths", "", "| up to tokens | rows |", "|---|---|", *histogram],
        ["", "## Settings", "", "| setting | value |", "|---|---|", *rows, ""],
        ["Every step is in `metrics.parquet`; `job.json` holds what the training was asked for.", ""],
    ]
    return "\n".join(itertools.chain.from_iterable(sections))


def _summary(config: RunConfig, data: TrainingData, base_revision: str, results: Mapping[str, Any]) -> list[str]:
    """The heading, a sentence on what was trained on what, and the numbers."""
    settings, lengths = config.settings, config.lengths
    method = {"lora": "A LoRA adapter", "qlora": "A LoRA adapter over a 4-bit base", "full": "All weights"}
    changed = "LoRA B matrices" if settings.method != "full" else "tensors"
    return [
        f"# {data.name}: {settings.loss.upper()}",
        "",
        f"{method[settings.method]} of `{config.base_name}` (revision `{base_revision}`), trained with "
        f"{settings.loss.upper()} on {_amount(config)} of `{data.name}` ({data.cited()}), seed {config.seed}.",
        *_data_paragraph(config, data),
        *_mix_paragraph(config),
        "",
        f"- optimiser steps: {_steps(config, results['steps'])}",
        f"- mean loss: {results['first_loss']:.4f} in the first quarter of the steps, {results['last_loss']:.4f} in "
        "the last",
        f"- {changed} that changed: {results['tensors_changed']} of {results['tensors']}",
        f"- longest row: {lengths.total_max:,} tokens; longest prompt {lengths.prompt_max:,}, longest answer "
        f"{lengths.answer_max:,}; no row was cut, {_dropped(config)}",
        f"- {results['sharing']}",
    ]


def _steps(config: RunConfig, steps: int) -> str:
    """The steps, as passes over the questions, and whether training.max_steps ended them."""
    settings, rows = config.settings, config.lengths.rows
    epochs = epochs_of(settings, rows, steps)
    text = f"{steps:,}, {epochs_in_words(epochs)} of {rows:,} questions"
    if steps == settings.max_steps and epochs < settings.epochs:
        text += f"; training.max_steps ended it, training.epochs is {settings.epochs:g}"
    return text


def _dropped(config: RunConfig) -> str:
    """How many rows were left out because they are too long."""
    lengths = config.lengths
    if not lengths.dropped_pairs:
        return "none dropped"
    return (
        f"{lengths.dropped_pairs:,} pairs longer than {config.settings.max_length:,} tokens were left out, among them "
        f"all pairs of {lengths.dropped_questions:,} questions"
    )


def _amount(config: RunConfig) -> str:
    """The number of the dataset's pairs, and of their questions where that is another number."""
    short = _short_rows(config)
    pairs, questions = config.lengths.pairs - short, config.lengths.rows - short
    return f"the {pairs:,} pairs" + (f" of {questions:,} questions" if pairs != questions else "")


def _data_paragraph(config: RunConfig, data: TrainingData) -> list[str]:
    """A paragraph on pairs that others published: where they are from, and which rows were left out."""
    if not isinstance(data, ExternalPairs):
        return []
    drops = all_drops(data, config.lengths)
    parts = [f"{count:,} {reason}" for reason, count in drops.items()]
    left_out = f"{sum(drops.values()):,} were dropped: {', '.join(parts)}" if parts else "none was dropped"
    licence = f"`{data.licence}`, as the user states it" if data.licence else "not stated"
    return [
        "",
        f"The pairs are from `{data.source.cited}`, split `{data.source.split}`, as others published them. Of its "
        f"{data.source_rows:,} rows {left_out}. Their licence: {licence}.",
    ]


def _short_rows(config: RunConfig) -> int:
    return config.mix.rows if config.mix else 0


def _mix_paragraph(config: RunConfig) -> list[str]:
    """A paragraph on the short-context pairs, where there are some."""
    if config.mix is None:
        return []
    mix = config.mix
    return [
        "",
        f"Beside them {mix.rows:,} short-context pairs of `{mix.source}` (content `{mix.content}`), {mix.ratio:g} for "
        f"each long one, drawn with the same seed from {mix.available:,}.",
    ]


def _metadata(config: RunConfig, data: TrainingData) -> dict[str, Any]:
    """The card's YAML. It has a licence only when the dataset states one."""
    adapter = config.settings.method != "full"
    metadata: dict[str, Any] = {
        "base_model": config.base_name,
        "datasets": [data.source.cited if isinstance(data, ExternalPairs) else data.name],
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": sorted({"longmill", "long-context", config.settings.loss, "trl", *(["lora"] if adapter else [])}),
    }
    if data.licence:
        metadata["license"] = data.licence
    return metadata


def _loss_table(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """At most a dozen steps, evenly spread, the last among them."""
    stride = max(1, -(-len(steps) // _LOSS_TABLE_ROWS))
    rows = list(reversed(list(reversed(steps))[::stride]))
    logged: set[str] = set()
    for step in steps:
        logged |= step.keys()
    columns = [name for name in _COLUMNS if name in logged]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for step in rows:
        cells = map(_cell, map(step.get, columns))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4g}"

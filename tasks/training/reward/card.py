"""The model card of a reward model: what it learned from, how well it does on held-out contexts, how to use it.

No date, no folder of a machine. `held_out_rows` is the table that the command prints too.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import yaml

from infra.recipe.public import public_settings
from tasks.reporting.tables import markdown
from tasks.training.reward.judged import JudgedData
from tasks.training.reward.rows import EncodedRows
from tasks.training.reward.settings import RewardRun

Rows = tuple[list[str], list[list[str]]]


def reward_card(
    run: RewardRun, data: JudgedData, rows: EncodedRows, base_revision: str, results: Mapping[str, Any]
) -> str:
    """README.md of the model folder; `results` are those of the run, with its `figures`."""
    settings: list[list[str]] = []
    for name, value in sorted(public_settings(run.settings.model_dump(mode="json")).items()):
        settings.append([name, f"`{value}`"])
    heads = [[head.name, f"{head.scores:,}", f"{head.mean:.2f}", f"{head.spread:.2f}"] for head in run.heads]
    sections = [
        ["---", yaml.safe_dump(_metadata(run, data), sort_keys=True, allow_unicode=True).rstrip(), "---"],
        _summary(run, data, rows, base_revision, results),
        ["", "![training](training.png)", "", "## On held-out contexts", ""],
        [_split_sentence(data, rows), "", markdown(*held_out_rows(results["figures"])).rstrip()],
        ["", "All figures are in `figures.json`, each held-out answer with its scores in `held-out.parquet`."],
        ["", "## Heads", "", markdown(["head", "training scores", "mean", "spread"], heads).rstrip()],
        ["", "## Use", "", *_use(run)],
        ["", "## Settings", "", markdown(["setting", "value"], settings).rstrip(), ""],
    ]
    return "\n".join(itertools.chain.from_iterable(sections))


def held_out_rows(figures: Mapping[str, Any]) -> Rows:
    """What the model does on held-out contexts, a line each figure, with 95% intervals over questions."""
    columns = ["held-out contexts", "value", "95% interval", "over"]
    if not figures:
        return columns, [["no held-out question", "", "", ""]]
    table = [_percent("pairs ordered as the judge does", figures["accuracy"])]
    for row in figures["accuracy_by_margin"]:
        end = f"up to {row['up_to']:g}" if row["up_to"] else "more"
        table.append(_percent(f"· margin above {row['above']:g}, {end}", row))
    for row in figures["accuracy_by_prompt_tokens"]:
        table.append(_percent(f"· prompt up to {row['up_to']:,} tokens", row))
    table.append(_percent("(the longer answer is the better one)", figures["longer_answer_is_better"]))
    for name, figure in figures["spearman"].items():
        table.append(_number(f"Spearman within questions: {name}", figure))
    for name, figure in figures["error"].items():
        beside = f"{figure['of_the_mean']:.2f} by the mean score"
        table.append(
            [f"mean error: {name}", f"{figure['mean_absolute']:.2f}", beside, f"{figure['answers']:,} answers"]
        )
    table += _calibration_rows(figures["calibration"])
    for name, figure in figures["length_bias"].items():
        table.append(_number(f"Spearman with the answer's length: {name}", figure))
    for name, figure in figures["best_of_n"].items():
        table.append(_number(f"judged reward of the answers: {name}", figure))
    return columns, table


def _calibration_rows(calibration: Mapping[str, Any]) -> list[list[str]]:
    if "expected_error" not in calibration:
        return []
    rows = [
        ["expected calibration error of a pair's probability", f"{100 * calibration['expected_error']:.1f}%", "", ""]
    ]
    for part in calibration["bins"]:
        stated = f"· probability {100 * part['probability']:.0f}%: right"
        rows.append([stated, f"{100 * part['accuracy']:.1f}%", "", f"{part['pairs']:,} pairs"])
    return rows


def _percent(name: str, figure: Mapping[str, Any]) -> list[str]:
    if figure["value"] is None:
        return [name, "", "", "0 questions"]
    interval = f"[{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"
    return [name, f"{100 * figure['value']:.1f}%", interval, f"{figure['pairs']:,} pairs of {figure['n']:,} questions"]


def _number(name: str, figure: Mapping[str, Any]) -> list[str]:
    if figure["value"] is None:
        return [name, "", "", "0 questions"]
    interval = f"[{figure['low']:.2f}, {figure['high']:.2f}]"
    return [name, f"{figure['value']:.2f}", interval, f"{figure['n']:,} questions"]


def _split_sentence(data: JudgedData, rows: EncodedRows) -> str:
    test = rows.test
    return (
        f"Held out: {test.answers:,} answers to {test.questions:,} questions over {test.contexts:,} contexts "
        f"({data.sides.rule}); no context is on both sides."
    )


def _summary(
    run: RewardRun, data: JudgedData, rows: EncodedRows, base_revision: str, results: Mapping[str, Any]
) -> list[str]:
    settings, train = run.settings, rows.train
    how = "LoRA, merged" if settings.method == "lora" else "all weights"
    cited = ", ".join(f"`{dataset.manifest['name']}` (manifest `{dataset.sha256}`)" for dataset in data.datasets)
    drops = [f"{count:,} {reason}" for reason, count in rows.drops.items() if count]
    learned = {
        "regression": f"the squared error of {len(run.heads)} heads, one for each scorer; their mean is the reward",
        "pairwise": f"the pairwise loss with a margin of {settings.margin:g} times the difference of judged rewards",
    }
    return [
        f"# {data.name}: reward model",
        "",
        f"A reward model that reads the whole context: `{run.base_name}` (revision `{base_revision}`) as a sequence "
        f"classifier, {how}, trained on judged answers of {cited} with {learned[settings.objective]}; seed {run.seed}.",
        "",
        f"- learned from {train.answers:,} answers to {train.questions:,} questions over {train.contexts:,} contexts",
        f"- answers left out: {', '.join(drops) or 'none'}",
        f"- longest row: {train.longest:,} tokens; no row was cut",
        f"- optimiser steps: {results['steps']:,}; mean loss {results['first_loss']:.4f} in the first quarter, "
        f"{results['last_loss']:.4f} in the last",
        f"- {results['sharing']}",
    ]


def _use(run: RewardRun) -> list[str]:
    labels = f", labels: {len(run.heads)}" if len(run.heads) > 1 else ""
    return [
        "The input is the conversation of the prompt, with the whole context, and the answer, through the tokenizer's",
        "chat template. The logits are the scores as they are; their mean is the reward.",
        "",
        "```yaml",
        "scoring:",
        "  scorers:",
        "    - {scorer: reward_model, model: FOLDER, with_context: true, max_tokens: " + f"{run.longest}{labels}" + "}",
        "```",
        "",
        "`vllm serve FOLDER --runner pooling` serves it at `/classify` and `/pooling` (`use_activation: false`).",
    ]


def _metadata(run: RewardRun, data: JudgedData) -> dict[str, Any]:
    """The card's YAML. It has a licence only where the datasets state one, and the same."""
    metadata: dict[str, Any] = {
        "base_model": run.base_name,
        "datasets": [str(dataset.manifest["name"]) for dataset in data.datasets],
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["long-context", "longmill", "reward-model"],
    }
    if len(data.licences) == 1:
        metadata["license"] = data.licences[0]
    return metadata


def summary_rows(trained: Mapping[str, Any]) -> Rows:
    """Of a finished training: what it learned from, and what was left out."""
    answers = f"{trained['train_answers']:,} answers to {trained['questions']:,} questions"
    rows = [["training", f"{trained['steps']:,} steps over {answers}"]]
    rows.append(["held out", f"{trained['test_answers']:,} answers"])
    for reason, count in trained["drops"].items():
        rows.append([f"answers dropped: {reason}", f"{count:,}"])
    return ["", ""], rows

"""`longmill microworld VERB`: datasets of a generated world, and training of the two models in the box.

Each verb hands its options to tasks/microworld. Training can be interrupted: it writes checkpoints and a log under
`--work`, the same command goes on from there, and its end draws the log. Heavy libraries are imported inside the verbs.
Leaves out several GPUs: the models are tiny.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.display import AsJson, console, finish, progress_unless_json, table
from tasks.microworld.make import (
    POOL,
    QUESTIONS,
    DatasetSettings,
    DatasetSummary,
    people_for,
    write_contexts,
    write_pool,
)
from tasks.microworld.words import Split

microworld = typer.Typer(help="The generated world: datasets of any size with gold answers.", no_args_is_help=True)
train = typer.Typer(help="Train the models in the box.", no_args_is_help=True)
microworld.add_typer(train, name="train")
PROMPTS = Path(__file__).parents[2] / "tasks/prompts/en"
CURVES = "training.png"

Out = Annotated[Path, typer.Option(help="Folder for the model and its card.", metavar="FOLDER")]
Work = Annotated[Path, typer.Option(help="Folder for checkpoints, log and plot.", metavar="FOLDER")]
Seed = Annotated[int, typer.Option(help="Another seed, other lessons.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; without it, one for each core.")]


@microworld.callback()
def microworld_group() -> None:
    """The generated world: datasets of any size with gold answers."""


@train.callback()
def train_group() -> None:
    """Train the models in the box: from nothing, from the repository alone."""


@microworld.command()
def make(
    out: Annotated[Path, typer.Option(help="Folder for the files.", metavar="FOLDER")],
    questions: Annotated[int, typer.Option(min=1, help="How many questions.")] = 1000,
    tokens: Annotated[int, typer.Option(min=1, help="Longest context, in tokens of the model in the box.")] = 32000,
    hops: Annotated[int, typer.Option(min=1, max=3, help="Facts in the longest chain that a question needs.")] = 2,
    split: Annotated[Split, typer.Option(help="Whose names to use: no name is in two splits.")] = "train",
    seed: Annotated[int, typer.Option(help="Another seed, other worlds.")] = 7,
    people: Annotated[
        int | None, typer.Option(min=4, help="People in a world; without it, as many as the contexts need.")
    ] = None,
    pool: Annotated[
        bool, typer.Option("--pool", help="One world: supporting documents and a pool, for contexts.build: pooled.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a dataset in the factory's input format, with gold answers, evidence and preferences."""
    clock = time.monotonic()
    files = [("questions", str(out / QUESTIONS))]
    with progress_unless_json(as_json):
        if pool:
            made = write_pool(out, questions, seed, people or max(people_for(tokens), questions // 2), hops, split)
            files.append(("pool", str(out / POOL)))
        else:
            made = write_contexts(out, DatasetSettings(questions, tokens, hops, seed, split, people))
    if not as_json:
        console.print(table(f"microworld, {split}", *_made_rows(made, time.monotonic() - clock)))
    finish(as_json, {**asdict(made), "files": dict(files)}, files)


@train.command()
def policy(
    out: Out = Path("build/microworld/policy/model"),
    work: Work = Path("build/microworld/policy"),
    seed: Seed = 0,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train the policy in three stages: lookup, hops, imperfect answers. About an hour and a half on one core."""
    with progress_unless_json(as_json):
        _use_threads(threads)
        from tasks.microworld.train_policy import STAGES, train_policy

        measured = train_policy(PROMPTS, work, out, seed)
    rows = []
    for prompt, percent in measured.items():
        greedy, sampled, majority = percent["greedy"], percent["sampled"], percent["majority"]
        rows.append([prompt, f"{greedy:.1f}", f"{sampled:.1f}", f"{majority:.1f}"])
    stages = {stage.name: work / stage.name for stage in STAGES}
    columns = ["SubEM %", "greedy", "sampled", "majority"]
    _finish_training("policy", columns, rows, _write_curves(stages, work), out, as_json)


@train.command()
def judge(
    start: Annotated[str, typer.Option(help="Model folder that it begins with.", metavar="FOLDER")] = "microworld",
    out: Out = Path("build/microworld/judge/model"),
    work: Work = Path("build/microworld/judge"),
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 5000,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train the judge, which begins with the policy's layers. Over two hours on one core."""
    with progress_unless_json(as_json):
        _use_threads(threads)
        from infra.models.tokens import resolve_model
        from tasks.microworld.train_judge import JudgeTrainingSettings, train_judge

        settings = JudgeTrainingSettings(steps=steps, seed=seed)
        measured = train_judge(settings, Path(resolve_model(start)), PROMPTS, work, out)
    rows = []
    for kind, percent in measured.items():
        rows.append([kind, f"{percent:.1f}"])
    _finish_training("judge", ["calls", "right %"], rows, _write_curves({"judge": work}, work), out, as_json)


@train.command()
def verifier(
    start: Annotated[
        str, typer.Option(help="Folder of the judge that it begins with.", metavar="FOLDER")
    ] = "microworld-judge",
    out: Out = Path("build/microworld/verifier/model"),
    work: Work = Path("build/microworld/verifier"),
    steps: Annotated[int, typer.Option(min=0, help="Optimiser steps; 0: the judge's weights as they are.")] = 400,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train the verifier of facts, which begins as the judge with a head of three labels. About ten minutes."""
    with progress_unless_json(as_json):
        _use_threads(threads)
        from infra.models.tokens import resolve_model
        from tasks.microworld.train_verifier import VerifierTrainingSettings, train_verifier

        settings = VerifierTrainingSettings(steps=steps, seed=seed)
        measured = train_verifier(settings, Path(resolve_model(start)), PROMPTS, work, out)
    rows = [[truth, f"{percent:.1f}"] for truth, percent in measured.items()]
    files = [("model", str(out))]
    if not as_json:
        console.print(table("microworld, verifier", ["statements", "right %"], rows))
    finish(as_json, {"measured": measured, "files": dict(files)}, files)


def _made_rows(made: DatasetSummary, seconds: float) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of what was made."""
    counts = {"questions": made.questions, **dict(sorted(made.kinds.items())), "worlds": made.worlds}
    if made.tokens:
        counts["tokens of contexts"] = made.tokens
        counts["tokens a second"] = round(made.tokens / seconds)
    for fault, count in sorted(made.faults.items()):
        counts[f"rejected: {fault}"] = count
    rows = []
    for name, count in counts.items():
        rows.append([name, f"{count:,}"])
    return ["", "count"], rows


def _use_threads(threads: int | None) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


def _write_curves(stages: Mapping[str, Path], work: Path) -> Path:
    """Draw the logs of the stages, which are in these folders; returns the plot's path."""
    plot = work / CURVES
    logs = {}
    for stage, folder in stages.items():
        logs[stage] = read_log(folder)
    plot.write_bytes(curves_plot(logs))
    return plot


def _finish_training(
    model: str, columns: list[str], rows: list[list[str]], plot: Path, out: Path, as_json: bool
) -> None:
    """Print the table and the paths of a training that has ended."""
    files = [("plot", str(plot)), ("model", str(out))]
    if not as_json:
        console.print(table(f"microworld, {model}", columns, rows))
    measured = []
    for row in rows:
        measured.append(dict(zip(columns, row, strict=True)))
    finish(as_json, {"measured": measured, "files": dict(files)}, files)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's log that have a loss, by step.

    After an interruption some steps are trained again: of two lines on a step the later one counts.
    """
    from tasks.microworld.training import LOG

    by_step: dict[int, dict[str, Any]] = {}
    for text in (folder / LOG).read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if "loss" in line:
            by_step[line["step"]] = line
    return [by_step[step] for step in sorted(by_step)]


def curves_plot(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """A PNG with the loss by step, a panel for each stage; and one with the percent of right calls, where logged."""
    from tasks.reporting.plots import BLUE, GREY, INK, ORANGE, panels, png

    curves: list[tuple[str, str, dict[str, list[float]]]] = []  # stage, label of the axis, values by series
    for stage, lines in logs.items():
        curves.append((stage, "loss", {"loss": [line["loss"] for line in lines]}))
        right: dict[str, list[float]] = {}
        for line in lines:
            for kind, percent in line.get("right", {}).items():
                right.setdefault(kind, []).append(percent)
        if right:
            curves.append((stage, "calls right (%)", right))
    figure, axes = panels(len(curves), columns=min(3, len(curves)))
    for axis, (stage, label, series) in zip(axes, curves, strict=True):
        steps = [line["step"] for line in logs[stage]]
        for position, (name, values) in enumerate(series.items()):
            style = ("-", "--")[position // 4 % 2]
            color = (BLUE, ORANGE, GREY, INK)[position % 4]
            axis.plot(steps, values, style, color=color, linewidth=1.2, label=name)
        axis.set_title(stage, fontsize=10, color=INK, loc="left")
        axis.set_xlabel("step")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        if len(series) > 1:
            axis.legend(frameon=False, fontsize=7, ncols=2)
    return png(figure)

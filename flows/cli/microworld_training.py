"""`longmill microworld train policy|judge`: the models in the box, trained as their cards say. Resumable.

Each keeps its checkpoints and its log under `--work` and draws the loss there; the same command goes on where it was.
Heavy libraries are imported inside the verbs. Leaves out several GPUs: the models are tiny.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.display import AsJson, calm, console, finish, table

train = typer.Typer(help="Train the models in the box.", no_args_is_help=True)
PROMPTS = Path(__file__).parents[2] / "tasks/prompts/en"
CURVES = "training.png"

Out = Annotated[Path, typer.Option(help="Folder for the model and its card.", metavar="FOLDER")]
Work = Annotated[Path, typer.Option(help="Folder for checkpoints, log and plot.", metavar="FOLDER")]
Seed = Annotated[int, typer.Option(help="Another seed, other lessons.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; without it, one for each core.")]


@train.callback()
def group() -> None:
    """Train the models in the box: from nothing, from the repository alone."""


@train.command()
def policy(
    out: Out = Path("build/microworld/policy/model"),
    work: Work = Path("build/microworld/policy"),
    seed: Seed = 0,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train the policy in three stages: lookup, hops, imperfect answers. About an hour and a half on one core."""
    with calm(as_json):
        _use_threads(threads)
        from tasks.microworld.train_policy import STAGES, train_policy

        measured = train_policy(PROMPTS, work, out, seed)
    rows = [
        [prompt, *(f"{each[name]:.1f}" for name in ("greedy", "sampled", "majority"))]
        for prompt, each in measured.items()
    ]
    stages = {each.name: work / each.name for each in STAGES}
    _end("policy", ["SubEM %", "greedy", "sampled", "majority"], rows, _drawn(stages, work), out, as_json)


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
    with calm(as_json):
        _use_threads(threads)
        from infra.models.tokens import resolve_model
        from tasks.microworld.train_judge import Settings, train_judge

        settings = Settings(steps=steps, seed=seed)
        measured = train_judge(settings, Path(resolve_model(start)), PROMPTS, work, out)
    rows = [[kind, f"{right:.1f}"] for kind, right in measured.items()]
    _end("judge", ["calls", "right %"], rows, _drawn({"judge": work}, work), out, as_json)


def _use_threads(threads: int | None) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


def _drawn(stages: Mapping[str, Path], work: Path) -> Path:
    """The plot of the stages' logs."""
    plot = work / CURVES
    plot.write_bytes(curves_plot({name: read_log(folder) for name, folder in stages.items()}))
    return plot


def _end(name: str, columns: list[str], rows: list[list[str]], plot: Path, out: Path, as_json: bool) -> None:
    """The table and the paths of a training that is done."""
    files = [("plot", str(plot)), ("model", str(out))]
    if not as_json:
        console.print(table(f"microworld, {name}", columns, rows))
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    finish(as_json, {"measured": found, "files": dict(files)}, files)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's log that tell of a step, each step once: the last that was said of it."""
    from tasks.microworld.checkpoint import LOG

    lines = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
    return [each for _, each in sorted({line["step"]: line for line in lines if "loss" in line}.items())]


def curves_plot(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """The loss by step, a panel for each stage; where the log tells, the percent of calls right beside it."""
    from tasks.reporting.plots import BLUE, GREY, INK, ORANGE, panels, png

    drawn: list[tuple[str, str, dict[str, list[float]]]] = []
    for stage, lines in logs.items():
        drawn.append((stage, "loss", {"loss": [each["loss"] for each in lines]}))
        if kinds := next((list(each["right"]) for each in lines if "right" in each), []):
            drawn.append((stage, "calls right (%)", {kind: [each["right"][kind] for each in lines] for kind in kinds}))
    figure, axes = panels(len(drawn), columns=min(3, len(drawn)))
    for each, (stage, what, series) in zip(axes, drawn, strict=True):
        steps = [line["step"] for line in logs[stage]]
        for place, (name, values) in enumerate(series.items()):
            style = ("-", "--")[place // 4 % 2]
            each.plot(steps, values, style, color=(BLUE, ORANGE, GREY, INK)[place % 4], linewidth=1.2, label=name)
        each.set_title(stage, fontsize=10, color=INK, loc="left")
        each.set_xlabel("step")
        each.set_ylabel(what)
        each.set_ylim(bottom=0)
        if len(series) > 1:
            each.legend(frameon=False, fontsize=7, ncols=2)
    return png(figure)

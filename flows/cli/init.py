"""`longmill init`: six questions, or flags, then a recipe that works and the commands to go on with."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from flows.cli.display import AsJson, console, finish, print_notes
from flows.cli.first_recipe import METHODS, Choices, ModelChoice, list_models, recipe_text, try_endpoints
from infra.errors import InputError, UsageError
from infra.models.tokens import context_window, resolve_model
from infra.recipe import DEFAULT_STORE, parse_recipe
from infra.recipe.yaml_text import read_yaml

_ROWS = (".jsonl", ".json", ".parquet", ".csv")


def init(
    questions: Annotated[str, typer.Option(help="Your questions: a file, folder, URL or hub name.")] = "",
    documents: Annotated[str, typer.Option(help="Your documents, to ask questions about: a folder or URL.")] = "",
    endpoint: Annotated[str, typer.Option(help="URL of the model that answers; without, vLLM is started here.")] = "",
    model: Annotated[str, typer.Option(help="Name of the model that answers; else the one at the endpoint.")] = "",
    key_env: Annotated[str, typer.Option(help="Variable that holds the endpoint's key.")] = "",
    judge: Annotated[str, typer.Option(help="URL of a judge, a stronger model.")] = "",
    judge_model: Annotated[str, typer.Option(help="Name of the judge; else the one at its endpoint.")] = "",
    judge_key_env: Annotated[str, typer.Option(help="Variable that holds the judge's key.")] = "",
    method: Annotated[str, typer.Option(help="sealong: no judge; longreward: a judge rates the answers.")] = "",
    store: Annotated[str, typer.Option(help="Where all that is made is stored: a folder or s3://...; else mill.")] = "",
    train: Annotated[bool | None, typer.Option("--train/--no-train", help="Train a model on the pairs here.")] = None,
    out: Annotated[str, typer.Option(help="The recipe's file.")] = "recipe.yaml",
    force: Annotated[bool, typer.Option("--force", help="Write over a recipe that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a first recipe: asks six questions on a terminal, or takes flags; tries the endpoints."""
    if questions and documents:
        raise UsageError("init: give either --questions or --documents")
    if Path(out).exists() and not force:
        raise InputError(f"{out}: is there already; give --force to write over it, or --out with another name")
    asks = on_terminal() and not as_json
    notes: list[str] = []
    if not (questions or documents):
        questions, documents = _ask_source(asks)
    endpoint = endpoint or (_ask(asks and not model, "URL of the model that answers (empty: vLLM is started here)"))
    policy = _choose_model("policy", endpoint, model, key_env, asks, notes)
    judge = judge or _ask(asks and not judge_model, "URL of a judge, a stronger model (empty: none)")
    critic = _choose_model("judge", judge, judge_model, judge_key_env, asks, notes) if judge or judge_model else None
    method = method or _ask(asks, f"Method: {' or '.join(METHODS)}", METHODS[critic is not None])
    if method not in METHODS:
        raise UsageError(f"init: there is no method {method!r}; there are: {', '.join(METHODS)}")
    if method == "longreward" and critic is None:
        raise UsageError("init: longreward needs a judge; give --judge URL, or take --method sealong")
    store = store or _ask(asks, "Store: a folder, or s3://bucket/prefix", DEFAULT_STORE)
    if train is None:
        train = typer.confirm("Train a model on the pairs here?", default=False) if asks else False
    if critic is not None and method == "sealong" and not documents:
        notes.append("sealong over your own questions asks no judge, so the recipe has none")
        critic = None
    choices = Choices(documents, questions, policy, critic, method, store, train)
    if questions:
        _read_questions(choices, notes)
    elif "://" not in documents and not any(mark in documents for mark in "*?") and not Path(documents).exists():
        raise InputError(f"{documents}: no such file or folder; check the path")
    _write(choices, Path(out), notes, as_json)


def _write(choices: Choices, out: Path, notes: list[str], as_json: bool) -> None:
    """Check the recipe, try its endpoints, write it, and print what came back and what comes next."""
    text = recipe_text(choices)
    recipe = parse_recipe(read_yaml(text), str(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    replies = list(try_endpoints(recipe, choices))
    verbs = ("doctor", "plan", "run" if choices.train else "build")
    commands = [shlex.join(["longmill", verb, str(out)]) for verb in verbs]
    if not as_json:
        for called, reply in replies:
            console.print(f"[bold]{escape(called)}[/]: {escape(reply)}", soft_wrap=True)
        print_notes(notes)
    outcome = {"recipe": str(out), "replies": dict(replies), "notes": notes, "next": commands}
    finish(as_json, outcome, [("recipe", str(out)), *(("next", command) for command in commands)])


def on_terminal() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty()


def _ask(asks: bool, question: str, default: str = "") -> str:
    """What a person types, or the default where nobody is asked."""
    if not asks:
        return default
    return str(typer.prompt(question, default=default, show_default=bool(default))).strip()


def _ask_source(asks: bool) -> tuple[str, str]:
    """(questions, documents), one of which is empty."""
    if not asks:
        raise UsageError(
            "init: no terminal to ask on; give --questions FILE or --documents FOLDER, and --endpoint URL or "
            "--model NAME"
        )
    place = _ask(asks, "Path of your questions or documents")
    kind = _ask(asks, "Are these questions or documents?", "questions" if place.endswith(_ROWS) else "documents")
    if not place or kind not in ("questions", "documents"):
        raise UsageError("init: name a file or a folder, and say `questions` or `documents`")
    return (place, "") if kind == "questions" else ("", place)


def _choose_model(section: str, endpoint: str, name: str, key_env: str, asks: bool, notes: list[str]) -> ModelChoice:
    """The model of a section: the one that is named, else one that the endpoint lists. Says what the endpoint says."""
    models: list[tuple[str, int | None]] = []
    silent = ""
    if endpoint:
        try:
            models = list_models(endpoint, key_env)
        except (OSError, ValueError) as error:
            silent = f"{endpoint} does not list its models ({error})"
            notes.append(f"{section}: {silent}; start it, or correct the recipe")
    names = [listed for listed, _ in models]
    if not name and len(names) == 1:
        name = names[0]
    if not name and asks:
        if names or silent:
            console.print(silent or f"it serves {', '.join(names)}", markup=False, soft_wrap=True)
        examples = "" if names else " (on the hub, a folder, or microworld in the box)"
        name = _ask(asks, f"Name of the {section}'s model{'' if endpoint else examples}", names[0] if names else "")
    if not name:
        flag = "--model" if section == "policy" else "--judge-model"
        listed = f"; it serves {', '.join(names)}" if names else f", for {silent}" if silent else ""
        raise UsageError(f"init: name the model of the {section} with {flag}{listed}")
    if names and name not in names:
        notes.append(f"{section}: {endpoint} does not serve {name}; it serves {', '.join(names)}")
    window = dict(models).get(name)
    choice = ModelChoice(name, endpoint, key_env=key_env)
    if window is not None:
        choice.window = window
    elif endpoint:
        notes.append(
            f"{section}: context_window is a guess ({choice.window:,} tokens), for the endpoint does not say it; and "
            "the tokenizer must be a folder or a name on the hub"
        )
    elif Path(resolve_model(name)).exists():
        choice.window = min(choice.window, context_window(name) or choice.window)
    return choice


def _read_questions(choices: Choices, notes: list[str]) -> None:
    """Find out how the file of questions is read. Raises InputError for one that cannot be."""
    from flows.cli.formats import file_view

    view: dict[str, Any] = file_view(choices.questions)
    if not view["settings"]:
        raise InputError(f"{choices.questions}: {view['name']}; {view['remedy']}")
    reading: dict[str, Any] = {}
    for setting in view["settings"]:
        key, _, value = setting.partition("=")
        section, _, name = key.partition(".")
        if section == "contexts" and name == "build":
            choices.build_contexts = value
        elif section == "questions" and name != "source":
            _put(reading, name, read_yaml(value))
    choices.reading = reading
    counts = f"{view['questions']:,} questions in the first {view['rows']:,} rows"
    notes.append(f"{choices.questions} is read as {view['name']}: {counts}")


def _put(reading: dict[str, Any], name: str, value: Any) -> None:
    """Set a key of `questions`, or one inside a key of it."""
    outer, _, inner = name.partition(".")
    if inner:
        reading.setdefault(outer, {})[inner] = value
    else:
        reading[outer] = value

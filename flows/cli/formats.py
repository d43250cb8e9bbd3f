"""The verb `longmill formats`: the formats that questions can have, and which of them a file has."""

import itertools
import shlex
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from flows.cli.display import AsJson, console, finish
from flows.cli.inspecting import plain
from infra.recipe.yaml_text import read_yaml

_ROWS = 20  # that are read for a guess
_QUESTION_LENGTH, _CONTEXT_LENGTH = 800, 400  # characters


def formats(
    file: Annotated[
        str, typer.Argument(help="Questions to name the format of: file, folder, URL or hub name.", metavar="FILE")
    ] = "",
    subset: Annotated[str, typer.Option(help="Configuration of a hub dataset.")] = "",
    split: Annotated[str, typer.Option(help="Split of a `datasets` folder or hub dataset.")] = "train",
    as_json: AsJson = False,
) -> None:
    """List the formats of questions, or say which one a file has and how a recipe reads it."""
    view = file_view(file, subset or None, split) if file else known_formats()
    if not as_json:
        for part in _file_page(view) if file else _list_page(view):
            console.print(part, soft_wrap=True)
    finish(as_json, view, [])


def known_formats() -> dict[str, str]:
    """What each format is, by name."""
    from tasks.questions import question_formats

    return {name: form.about for name, form in question_formats().items()}


def file_view(source: str, subset: str | None = None, split: str = "train") -> dict[str, Any]:
    """What a file seems to be: name, remedy, the recipe settings that read it, and what they make of its first rows.

    Raises InputError for a file that cannot be read, or in which nothing looks like a question about a text.
    """
    from infra.errors import InputError
    from infra.recipe import Questions
    from tasks.questions import question_formats, read_questions, read_rows
    from tasks.questions.guess import guess_format
    from tasks.records.example import Drop

    rows = list(itertools.islice(read_rows(source, subset, split), _ROWS))
    guess = guess_format(rows[0].values, question_formats().values())
    if guess is None:
        names = ", ".join(sorted(rows[0].values)[:12])
        raise InputError(
            f"{source}: no format fits and no field looks like a document; the first row has {names}. Name the fields "
            "with questions.fields.context and questions.fields.question"
        )
    view: dict[str, Any] = {"source": source, "name": guess.name, "remedy": guess.remedy, "settings": []}
    if not guess.settings:
        return view
    place: dict[str, Any] = {"source": source, "subset": subset, "split": split}
    settings = {name: value for name, value in place.items() if value not in (None, "train")}
    changes = [f"questions.{name}={value}" for name, value in settings.items()]
    for setting in guess.settings:
        key, _, value = setting.partition("=")
        place[key.removeprefix("questions.")] = read_yaml(value)
    outcomes = list(read_questions(Questions(**place, limit=len(rows))))
    questions = [outcome for outcome in outcomes if not isinstance(outcome, Drop)]
    drops: dict[str, int] = {}
    for outcome in outcomes:
        if isinstance(outcome, Drop):
            drops.setdefault(f"{outcome.reason}: {outcome.detail}", 0)
            drops[f"{outcome.reason}: {outcome.detail}"] += 1
    view.update(settings=[*changes, *guess.settings], rows=len(rows), questions=len(questions), drops=drops)
    if questions:
        first = questions[0]
        if (first.context or "").strip():
            view["settings"].append("contexts.build=given")
        view["with_references"] = sum(bool(question.references) for question in questions)
        view["first"] = {
            "question": first.question,
            "references": list(first.references),
            "kind": first.kind,
            "language": first.language,
            "context": first.context,
            "documents": len(first.documents),
            "distractors": len(first.distractors),
        }
    return view


def _list_page(view: dict[str, str]) -> Iterator[RenderableType]:
    rows = Table(box=None, pad_edge=False, show_header=False)
    for name, about in view.items():
        rows.add_row(Text(name, "bold"), plain(about))
    yield rows
    yield Text("`longmill formats FILE` says which one a file has. Other rows: questions.fields in the recipe.")


def _file_page(view: dict[str, Any]) -> Iterator[RenderableType]:
    from tasks.reporting.dataset_card import shortened

    yield Text(f"{view['source']}: {view['name']}", "bold")
    if view["remedy"]:
        yield plain(view["remedy"])
    if not view["settings"]:
        return
    for reason, count in view["drops"].items():
        yield plain(f"dropped {count:,}: {reason}")
    if "first" in view:
        first = view["first"]
        counts = f"{view['questions']:,} questions in the first {view['rows']:,} rows"
        yield Text(f"{counts}, {view['with_references']:,} with references\n")
        yield Text("the first question", "dim")
        yield plain(shortened(first["question"], _QUESTION_LENGTH))
        yield Text("its references", "dim")
        yield plain(" · ".join(first["references"]) or "none")
        yield Text("its context", "dim")
        sources = f"{first['documents']:,} documents, {first['distractors']:,} distractors"
        yield plain(shortened(first["context"] or sources, _CONTEXT_LENGTH))
    options = " ".join(f"--set {shlex.quote(setting)}" for setting in view["settings"])
    yield Text(f"\nlongmill plan RECIPE {options}")

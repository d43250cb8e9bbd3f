"""The verb `longmill documents`: the formats that documents can have, and what is read from a folder or by a recipe."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from flows.cli.display import AsJson, console, finish, progress_unless_json, table
from flows.cli.inspecting import plain
from flows.recipes import BOX, read_recipe
from infra.errors import RecipeError, UsageError
from infra.recipe import Documents

_BEGINNING = 600  # characters of the first document that are printed
_RECIPES = (".yaml", ".yml")


def documents(
    source: Annotated[
        str, typer.Argument(help="Recipe with a section `documents`, or a folder, pattern, file or hub name.")
    ] = "",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a recipe key: --set documents.near_duplicates=0.7.", metavar="KEY=VALUE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the formats of documents, or read documents and say what is used and what is dropped."""
    if not source:
        view = known_formats()
        if not as_json:
            console.print(_format_list(view), soft_wrap=True)
        finish(as_json, view, [])
        return
    settings, tokenizer = _settings(source, changes)
    with progress_unless_json(as_json):
        view = documents_view(settings, _counter(tokenizer))
    if not as_json:
        for part in _page(view):
            console.print(part, soft_wrap=True)
    finish(as_json, view, [])


def known_formats() -> dict[str, str]:
    """What each format of documents is, by name."""
    from tasks.documents import document_formats

    return {name: f"{', '.join(form.suffixes)}: {form.about}" for name, form in document_formats().items()}


def documents_view(settings: Documents, count_tokens: Callable[[str], int] | None = None) -> dict[str, Any]:
    """What is read: counts in all, by format and by language, drops by reason with the first of each, the first
    document. Tokens are null without a tokenizer.

    Raises InputError as `read_documents`.
    """
    from tasks.documents import format_of, read_documents
    from tasks.records.example import Drop

    total = _counts()
    by_format: dict[str, dict[str, Any]] = {}
    by_language: dict[str, dict[str, Any]] = {}
    drops: dict[str, dict[str, Any]] = {}
    first: dict[str, Any] | None = None
    for outcome in read_documents(settings):
        if isinstance(outcome, Drop):
            drop = drops.setdefault(
                outcome.reason, {"documents": 0, "first": f"{outcome.example_id}: {outcome.detail}"}
            )
            drop["documents"] += 1
            continue
        tokens = count_tokens(outcome.text) if count_tokens else 0
        form = format_of(outcome.source) or format_of(outcome.source.rpartition("#")[0])
        name = form.name if form else "dataset"
        for counts in (
            total,
            by_format.setdefault(name, _counts()),
            by_language.setdefault(outcome.language, _counts()),
        ):
            counts["documents"] += 1
            counts["characters"] += len(outcome.text)
            counts["tokens"] += tokens
        total["longest"] = max(total.get("longest", 0), len(outcome.text))
        if first is None:
            first = {
                "source": outcome.source,
                "title": outcome.title,
                "pages": len(outcome.page_starts),
                "headings": [heading.title for heading in outcome.headings],
                "beginning": outcome.text[:_BEGINNING],
            }
    if count_tokens is None:
        for counts in (total, *by_format.values(), *by_language.values()):
            counts["tokens"] = None
    return {
        "source": settings.source,
        **total,
        "by_format": dict(sorted(by_format.items())),
        "by_language": dict(sorted(by_language.items())),
        "drops": dict(sorted(drops.items())),
        "first": first,
    }


def _counts() -> dict[str, Any]:
    return {"documents": 0, "characters": 0, "tokens": 0}


def _settings(source: str, changes: list[str] | None) -> tuple[Documents, str | None]:
    """The section of a recipe and its policy's tokenizer, or a section for this source alone."""
    if source in BOX or (source.endswith(_RECIPES) and Path(source).is_file()):
        recipe = read_recipe(source, changes)
        if recipe.documents is None:
            raise RecipeError(f"{source}: the recipe has no section `documents`; name a folder, or add the section")
        return recipe.documents, recipe.policy.tokenizer
    if changes:
        raise UsageError("--set changes the keys of a recipe; name one that has a section `documents`")
    return Documents(source=source), None


def _counter(tokenizer: str | None) -> Callable[[str], int] | None:
    if tokenizer is None:
        return None
    from infra.models.tokens import load_tokenizer, rough_tokens

    loaded = load_tokenizer(tokenizer, False)
    return lambda text: rough_tokens(loaded, [text])[0]


def _format_list(view: Mapping[str, str]) -> Table:
    rows = Table(box=None, pad_edge=False, show_header=False)
    for name, about in view.items():
        rows.add_row(Text(name, "bold"), plain(about))
    return rows


def _page(view: Mapping[str, Any]) -> Iterator[RenderableType]:
    rows = [_row("all", view)]
    for name, counts in [*view["by_format"].items(), *view["by_language"].items()]:
        rows.append(_row(name, counts))
    figures = ["", "characters"] if view["tokens"] is None else ["", "characters", "tokens"]
    yield table(view["source"], ["documents that are used", *figures], rows)
    for reason, drop in view["drops"].items():
        yield plain(f"dropped {drop['documents']:,} as {reason}, the first: {drop['first']}")
    first = view["first"]
    if first is None:
        yield Text("no document is left", "bold")
        return
    pages = f", {first['pages']:,} pages" if first["pages"] else ""
    yield Text(f"\nthe first: {first['source']}{pages}, {len(first['headings']):,} headings", "dim")
    yield plain(f"{first['title']}\n\n{first['beginning']}")


def _row(name: str, counts: Mapping[str, Any]) -> list[str]:
    tokens = [] if counts["tokens"] is None else [f"{counts['tokens']:,}"]
    return [name, f"{counts['documents']:,}", f"{counts['characters']:,}", *tokens]

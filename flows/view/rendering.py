"""Jinja templates of the pages. Every value is escaped; a text of a model or document goes through `text` as well."""

from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment

from tasks.reporting.html_templates import html_environment
from tasks.reporting.status_tables import clock_words
from tasks.viewing.text import cleaned, visible


def page(name: str, **values: Any) -> str:
    """A page of templates/, rendered."""
    return environment().get_template(f"{name}.html.jinja").render(**values)


@cache
def style() -> str:
    """The style sheet: the one of all pages of Longmill, then the viewer's own."""
    house = environment().get_template("page_style.css.jinja").render()
    return f"{house}\n{static('view.css')}"


@cache
def static(name: str) -> str:
    """A file of static/."""
    return resources.files("flows.view").joinpath("static", name).read_text(encoding="utf-8")


@cache
def environment() -> Environment:
    """The templates, those of reports among them."""
    templates = html_environment("flows.view")
    templates.filters["text"] = visible
    templates.filters["plain"] = cleaned
    templates.filters["figure"] = _figure
    templates.filters["percent"] = lambda value: f"{100 * value:.1f}%"
    templates.filters["short"] = _short
    templates.filters["clock"] = clock_words
    return templates


def _figure(value: float | None, signed: bool = False) -> str:
    """A score: three digits, a dash for null."""
    if value is None:
        return "—"
    return f"{value:+.3g}" if signed else f"{value:.3g}"


def _short(text: str, characters: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[:characters]}…"

"""The dataset card: README.md with the YAML that `datasets.load_dataset(FOLDER)` reads, then what a reader asks.

Settings, names and model text are data: each value is escaped for Markdown and HTML as it enters the template,
so that no answer can make a heading, a link, an image or a table column. The licence is what the recipe states.
No date, no folder of a machine, no password: the same plan and replies give the same bytes.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from infra.recipe import Recipe
from tasks.records.shard import paired_questions
from tasks.reporting.agreement_tables import agreement_rows, bias_rows, expected_rows, length_rows, saved_rows
from tasks.reporting.plots import PLOTS
from tasks.reporting.summary import Summary
from tasks.reporting.tables import Rows

if TYPE_CHECKING:
    from jinja2 import Template

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_CONFIGS = ("pairs", "evidence", "drops")
_MARKS = re.compile(r"(?<![^\W_])_|_(?![^\W_])|[\\`*\[\]~#|@!]")  # an underscore inside a word is only that
_LINKS = re.compile(r"(?i)\b(https?|ftp|mailto|xmpp)(?=:)|\bwww(?=\.)")
_OPENING = re.compile(r"^(?:[-+](?=\s|-|$)|=+$|\d+(?=[.)](?:\s|$)))")  # of a list, a rule or an underlined heading
_CUT = 400  # characters of a text that the card shows


def dataset_card(
    recipe: Recipe,
    manifest: Mapping[str, Any],
    summary: Summary,
    plots: Sequence[str],
    sample: Mapping[str, Any] | None,
) -> str:
    """README.md of a dataset.

    `manifest` needs all but the papers among its files; `plots` are names of `PLOTS` that lie in plots/; `sample`
    is a row of the pairs, or null where there is no pair.
    """
    tables = [each for each in manifest["files"] if "config" in each]
    rows = {
        (config, split): sum(each["rows"] for each in tables if (each["config"], each["split"]) == (config, split))
        for config in _CONFIGS
        for split in ("train", "test")
    }
    return _template().render(
        metadata=_safe(_front_matter(recipe, tables, summary)),
        description=recipe.dataset.description,
        manifest=manifest,
        summary=summary,
        paired_questions=paired_questions(manifest["counts"]),
        rows={place: count for place, count in rows.items() if count},
        settings=list(_flat(_settings(manifest["recipe"]))),
        plots=[(name, PLOTS[name]) for name in plots],
        sample=sample,
        ratios=_shares(summary.finish_reasons),
        tables=[each for each in _agreement(summary) if each[1]],
    )


def markdown_text(value: Any) -> str:
    """Any text as one line of Markdown that shows it as it is: no markup, no link, no column, no HTML."""
    text = " ".join(str(value).split())
    text = html.escape("".join(character for character in text if character.isprintable()), quote=False)
    text = _MARKS.sub(lambda match: f"&#{ord(match.group(0))};", text)
    text = _LINKS.sub(lambda match: match.group(0)[:-1] + f"&#{ord(match.group(0)[-1])};", text)
    return _OPENING.sub(lambda match: f"&#8203;{match.group(0)}", text)


def shortened(text: str, characters: int = _CUT) -> str:
    """A text with its middle left out when it is longer than `characters`."""
    if len(text) <= characters:
        return text
    half = characters // 2
    return f"{text[:half].rstrip()} […] {text[-half:].lstrip()}"


def _agreement(summary: Summary) -> tuple[Rows, ...]:
    judging = summary.judging
    return (
        agreement_rows(summary.agreement),
        length_rows(judging),
        bias_rows(judging),
        expected_rows(judging),
        saved_rows(judging),
    )


def _front_matter(recipe: Recipe, tables: Sequence[Mapping[str, Any]], summary: Summary) -> str:
    metadata: dict[str, Any] = {
        "license": recipe.dataset.licence,
        "language": sorted(summary.languages),
        "pretty_name": recipe.dataset.name,
        "size_categories": [next((name for bound, name in _SIZES if summary.pairs < bound), "n>1M")],
        "task_categories": ["text-generation", "question-answering"],
        "tags": ["dpo", "long-context", "longmill", "preference", "synthetic", "trl"],
        "configs": list(_configs(tables)),
    }
    return yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=1000).rstrip()


def _configs(tables: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The configurations by name. Every file is named, so that a stray one is never read."""
    for config in _CONFIGS:
        splits = {
            split: paths
            for split in ("train", "test")
            if (paths := [each["path"] for each in tables if (each["config"], each["split"]) == (config, split)])
        }
        if splits:
            data_files = [{"split": split, "path": paths} for split, paths in splits.items()]
            default = {"default": True} if config == "pairs" else {}
            yield {"config_name": config, **default, "data_files": data_files}


def _settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a manifest without what the card says elsewhere."""
    dataset = {key: value for key, value in recipe["dataset"].items() if key not in ("description", "licence", "name")}
    return {**recipe, "dataset": dataset}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and values, in sorted order."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _flat(value[key], f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for place, each in enumerate(value):
            yield from _flat(each, f"{path}[{place}]")
    elif isinstance(value, list):
        yield path, ", ".join(map(str, value))
    else:
        yield path, "—" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _shares(counts: Mapping[str, int]) -> list[tuple[str, int, str]]:
    total = sum(counts.values())
    return [(name, count, f"{100 * count / total:.1f}%") for name, count in sorted(counts.items())]


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("tasks", "reporting"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 — `finalize` escapes every value, for Markdown and for HTML
        finalize=lambda value: value if isinstance(value, Markup) else markdown_text(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shortened"] = shortened
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["decimal"] = lambda value: "—" if value is None else f"{value:.4g}"
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}%"
    return environment.get_template("card.md.jinja")


def _safe(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 — YAML of our own making

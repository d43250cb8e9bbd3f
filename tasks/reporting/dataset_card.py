"""The dataset card: README.md with the YAML that `datasets.load_dataset(FOLDER)` reads, then a description.

Settings, names and model text are data: every value is escaped for Markdown and HTML when it enters the template,
so that no answer can make a heading, a link, an image or a table column. The licence is the one of the recipe.
No date, no folder of a machine, no password: the same plan and replies give the same bytes.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from infra.recipe import Dataset, Recipe
from tasks.records.shard import paired_questions
from tasks.reporting.cascade_tables import cascade_rows
from tasks.reporting.plots import PLOTS
from tasks.reporting.sample_tables import sample_rows
from tasks.reporting.summary import Summary
from tasks.reporting.tables import (
    NOTHING,
    agreement_rows,
    bias_rows,
    embedded_rows,
    expected_rows,
    length_rows,
    saved_rows,
)
from tasks.reporting.verdict_tables import control_rows

if TYPE_CHECKING:
    from jinja2 import Template

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_CONFIGS = ("pairs", "evidence", "drops")
_SPLITS = ("train", "test")
_MARKS = re.compile(r"(?<![^\W_])_|_(?![^\W_])|[\\`*\[\]~#|@!]")  # an underscore inside a word is no markup
_LINKS = re.compile(r"(?i)\b(https?|ftp|mailto|xmpp)(?=:)|\bwww(?=\.)")
_OPENING = re.compile(r"^(?:[-+](?=\s|-|$)|=+$|\d+(?=[.)](?:\s|$)))")  # of a list, a rule or an underlined heading
MOST_PATHS = 200  # files of a configuration and split that the card names one by one
_CHARACTERS = 400  # of a text that the card shows


def dataset_card(
    recipe: Recipe,
    manifest: Mapping[str, Any],
    summary: Summary,
    plots: Sequence[str],
    sample: Mapping[str, Any] | None,
    with_reasoning: bool = False,
    with_tools: bool = False,
) -> str:
    """README.md of a dataset.

    `manifest` needs the tables among its files; the summary, the plots and the card itself may be missing. `plots` are
    names of `PLOTS` that lie in plots/; `sample` is a row of the pairs, or null when there is no pair.
    `with_reasoning`, `with_tools`: the tables have columns for them.
    """
    tables = [file for file in manifest["files"] if "config" in file]
    row_counts = {}
    for config in _CONFIGS:
        for split in _SPLITS:
            count = sum(file["rows"] for file in _files_of(tables, config, split))
            if count:
                row_counts[config, split] = count
    judging = summary.judging
    figure_tables = [
        sample_rows(summary, manifest["recipe"]["sampling"]),
        agreement_rows(summary.agreement),
        length_rows(judging),
        bias_rows(judging),
        expected_rows(judging),
        saved_rows(judging),
        control_rows(judging),
        cascade_rows(judging),
        embedded_rows(judging),
    ]
    tags = ["dpo", "long-context", "longmill", "preference", "synthetic", "trl"]
    languages = sorted(summary.languages)
    return render_card(
        "card.md.jinja",
        card_metadata(recipe.dataset, tables, languages, summary.pairs, _CONFIGS, tags),
        manifest,
        description=recipe.dataset.description,
        summary=summary,
        paired_questions=paired_questions(manifest["counts"]),
        row_counts=row_counts,
        plots=plots,
        plot_titles=PLOTS,
        sample=sample,
        finish_reasons=_shares(summary.finish_reasons),
        tables=figure_tables,
        with_reasoning=with_reasoning,
        with_tools=with_tools,
    )


def render_card(template: str, metadata: str, manifest: Mapping[str, Any], **values: Any) -> str:
    """A card by its template: the YAML of `card_metadata`, the settings of the manifest, and further values."""
    settings = list(_flat(_settings(manifest["recipe"])))
    return _template(template).render(metadata=_safe(metadata), manifest=manifest, settings=settings, **values)


def markdown_text(value: Any) -> str:
    """Any text as one line of Markdown that shows it as it is: no markup, no link, no column, no HTML."""
    text = " ".join(str(value).split())
    text = html.escape("".join(filter(str.isprintable, text)), quote=False)
    text = _MARKS.sub(lambda match: f"&#{ord(match.group(0))};", text)
    text = _LINKS.sub(lambda match: match.group(0)[:-1] + f"&#{ord(match.group(0)[-1])};", text)
    return _OPENING.sub(lambda match: f"&#8203;{match.group(0)}", text)


def shortened(text: str, characters: int = _CHARACTERS) -> str:
    """A text with its middle left out when it is longer than `characters`."""
    if len(text) <= characters:
        return text
    half = characters // 2
    return f"{text[:half].rstrip()} […] {text[-half:].lstrip()}"


def _files_of(tables: Sequence[Mapping[str, Any]], config: str, split: str) -> list[Mapping[str, Any]]:
    """The files of a configuration and split, in the manifest's order."""
    files = []
    for file in tables:
        if (file["config"], file["split"]) == (config, split):
            files.append(file)
    return files


def _size_category(pairs: int) -> str:
    for bound, name in _SIZES:
        if pairs < bound:
            return name
    return "n>1M"


def card_metadata(
    dataset: Dataset,
    tables: Sequence[Mapping[str, Any]],
    languages: Sequence[str],
    rows: int,
    configs: Sequence[str],
    tags: Sequence[str],
) -> str:
    """The card's YAML. `configs` are the names of the configurations, the first of which is the default."""
    metadata: dict[str, Any] = {
        "license": dataset.licence,
        "language": list(languages),
        "pretty_name": dataset.name,
        "size_categories": [_size_category(rows)],
        "task_categories": ["text-generation", "question-answering"],
        "tags": list(tags),
        "configs": list(_configs(tables, configs)),
    }
    return yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=1000).rstrip()


def reads_folders(tables: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the card names folders in place of files: then no file may be there that is not of the dataset."""
    for config in {file["config"] for file in tables if "config" in file}:
        for split in _SPLITS:
            if len(_files_of(tables, config, split)) > MOST_PATHS:
                return True
    return False


def _configs(tables: Sequence[Mapping[str, Any]], configs: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The configurations by name.

    Every file is named, so that a file which does not belong there is never read; of many files, their folder.
    """
    for config in configs:
        data_files = []
        for split in _SPLITS:
            paths = [file["path"] for file in _files_of(tables, config, split)]
            if len(paths) > MOST_PATHS:
                paths = [f"{paths[0].rpartition('/')[0]}/*.parquet"]
            if paths:
                data_files.append({"split": split, "path": paths})
        if data_files:
            default = {"default": True} if config == configs[0] else {}
            yield {"config_name": config, **default, "data_files": data_files}


def _settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a manifest without what the card says elsewhere."""
    dataset = dict(recipe["dataset"])
    for key in ("description", "licence", "name"):
        dataset.pop(key, None)
    return {**recipe, "dataset": dataset}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and values, in sorted order."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _flat(value[key], f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        for place, entry in enumerate(value):
            yield from _flat(entry, f"{path}[{place}]")
    elif isinstance(value, list):
        yield path, ", ".join(map(str, value))
    elif isinstance(value, bool):
        yield path, str(value).lower()
    else:
        yield path, NOTHING if value is None else str(value)


def _shares(counts: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """Each name with its count and its share in per cent."""
    total = sum(counts.values())
    shares = []
    for name, count in sorted(counts.items()):
        shares.append((name, count, f"{100 * count / total:.1f}%"))
    return shares


@cache
def _template(name: str) -> "Template":
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
    environment.filters["decimal"] = lambda value: NOTHING if value is None else f"{value:.4g}"
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}%"
    return environment.get_template(name)


def _safe(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 — YAML of our own making

"""The parts of the documentation that are written from the code: recipe keys, verbs, sizes, evidence.

`python -m tests.docs.generate` writes them into their pages, between `<!-- NAME begins -->` and `<!-- NAME ends -->`;
a test compares them.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.docs.pages import ROOT
from tests.docs.sizing import sizing_table


def keys() -> str:
    """Every recipe key, a table for each section and scorer."""
    from flows.cli.recipe_keys import recipe_keys
    from tasks.scoring import known_scorers

    rows: dict[str, list[str]] = {"Top level": []}
    meanings = {"Top level": ""}
    for key, default, meaning in recipe_keys():
        scorer = re.fullmatch(r"scoring\.scorers\[(\w+)\]\.([\w.]+)", key)
        is_section = "." not in key and default == ""
        if is_section:
            rows[f"`{key}`"] = []
            meanings[f"`{key}`"] = f"{_sentence(meaning)}\n\n"
            continue
        suite = re.fullmatch(r"evaluation\.suites\[(\w+)\]\.(\w+)", key)
        if scorer:
            heading, name = f"Scorer `{scorer.group(1)}`", scorer.group(2)
        elif suite:
            heading, name = f"Suite `{suite.group(1)}`", key
            meanings[heading] = f"One of `evaluation.suites`: `{{name: {suite.group(1)}, ...}}`\n\n"
        else:
            heading, name = f"`{key.partition('.')[0]}`" if "." in key else "Top level", key
        row = f"| `{name}` | {_cell(default or 'a section')} | {_cell(meaning)} |"
        rows.setdefault(heading, []).append(row)
    meanings["Suite `any`"] = "Every entry of `evaluation.suites`, beside its suite's own keys.\n\n"
    for name in known_scorers():
        meanings[f"Scorer `{name}`"] = f"One of `scoring.scorers`: `{{scorer: {name}, weight: 1.0, ...}}`\n\n"
    parts = []
    for heading, table in rows.items():
        head = "| key | default | meaning |\n|---|---|---|\n"
        parts.append(f"### {heading}\n\n{meanings[heading]}{head}" + "\n".join(table))
    return "\n\n".join(parts)


def suites() -> str:
    """Every suite: what it measures, its metrics, the judge's calls, its questions."""
    from tasks.evaluation.suites import all_suites

    rows = ["| suite | what it measures | metrics | judge's calls a question | questions |", "|---|---|---|---|---|"]
    for name, suite in all_suites().items():
        judged = suite.judge.metrics if suite.judge else ()
        metrics = ", ".join(f"`{metric}`" for metric in (*suite.metrics, *judged))
        calls = suite.judge.calls if suite.judge else "—"
        if suite.generate is not None and name != "short":
            questions = "generated"
        elif suite.format != "native":
            questions = f"`{suite.format}`"
        else:
            questions = "rows of the shape" if name == "short" else "any format"
        rows.append(f"| `{name}` | {_cell(suite.about)} | {metrics} | {calls} | {questions} |")
    return "\n".join(rows)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _cell(text: str) -> str:
    """The text as a cell of a table; a default is written as in YAML: `null`, `true`, `[1, 2]`, `"en"`."""
    if text.startswith("default "):
        return f"`{json.dumps(ast.literal_eval(text.removeprefix('default ')))}`"
    return text.replace("|", "\\|").replace("<", "&lt;")


def verbs() -> str:
    """Every verb with its help, its arguments and its options."""
    lines = []
    for name, command in command_tree():
        lines.append(f"**`longmill {name}`**: {_first_line(command.help)}\n")
        rows = []
        for parameter in command.params:
            signature = " ".join(filter(None, [*_names(parameter), _placeholder(parameter)]))
            rows.append(f"- `{signature}`: {_first_line(parameter.help)}{_default(parameter)}")
        lines.append("\n".join(rows) + "\n" if rows else "")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def command_tree() -> Iterator[tuple[str, Any]]:
    """("microworld make", command) for every verb that can be run."""
    from typer.main import get_command

    from flows.cli.app import app

    yield from _leaves(get_command(app), "")


def _leaves(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _names(parameter: Any) -> list[str]:
    return list(parameter.opts) if parameter.param_type_name == "option" else []


def _placeholder(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar)
    if getattr(parameter, "is_flag", False):
        return ""
    return "N" if isinstance(parameter.default, int) else "VALUE"


def _default(parameter: Any) -> str:
    is_value = not getattr(parameter, "is_flag", False) and parameter.default not in (None, "")
    return f" Default: `{parameter.default}`." if is_value else ""


def evidence() -> str:
    """The evidence table that is shipped."""
    from flows.evidence.measuring import shipped_table
    from flows.evidence.table import markdown_chapter

    return markdown_chapter(shipped_table()).strip()


GENERATED: dict[str, tuple[Path, Callable[[], str]]] = {
    "keys": (ROOT / "docs/recipes.md", keys),
    "verbs": (ROOT / "docs/verbs.md", verbs),
    "suites": (ROOT / "docs/evaluate.md", suites),
    "sizing": (ROOT / "docs/operate.md", sizing_table),
    "evidence.md": (ROOT / "docs/evidence.md", evidence),
}


def generated_part(name: str) -> str:
    """What stands in the page now."""
    page, _ = GENERATED[name]
    _, begins, rest = page.read_text(encoding="utf-8").partition(f"<!-- {name} begins -->\n")
    part, ends, _ = rest.partition(f"<!-- {name} ends -->")
    assert begins and ends, f"{page} has no part {name!r}"
    return part.strip()


def write_all() -> None:
    """Write every generated part into its page."""
    for name, (page, make) in GENERATED.items():
        before, begins, rest = page.read_text(encoding="utf-8").partition(f"<!-- {name} begins -->\n")
        _, ends, after = rest.partition(f"<!-- {name} ends -->")
        page.write_text(f"{before}{begins}{make()}\n\n{ends}{after}", encoding="utf-8")


if __name__ == "__main__":
    write_all()

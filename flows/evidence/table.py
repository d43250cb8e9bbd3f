"""The evidence table: from what every question of every seed adds to figures, intervals, verdicts and Markdown.

A figure is Σ parts / Σ wholes over questions; its interval is a nested bootstrap, over seeds and then over the
questions of each. A target that is missed stands in the table as missed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flows.evidence import EvidenceTableRow, Figure, Figures, Observation, SeedResult
from tasks.evaluation.statistics import nested_interval
from tasks.reporting.tables import NOTHING, Rows, markdown

RESAMPLES = 2000
SEED = 0
METRIC = "SubEM"
GROUPS = ("kinds", "lengths")
_DIFFERENCES = (" gain", "gain at ", " − ")  # a figure with one of these in its name is a difference, in points


def table_row(row: EvidenceTableRow, results: Mapping[int, SeedResult]) -> dict[str, Any]:
    """A row of the table, JSON-ready, from its results by seed.

    {"number", "name", "question", "paper", "target", "grouped", "headline", "met", "seeds": [...], "questions",
     "figures": {name: figure}, "kinds": [{"name", "questions", "figures"}], "lengths": the same, "about": {seed: ...}},
    a figure {"value", "low", "high", "n"}. Kinds and lengths are empty where there is only one.
    """
    observations = [result.observations for result in results.values()]  # of each seed
    figures = _figures(observations)
    details = {}
    for seed, result in results.items():
        details[str(seed)] = dict(result.details)
    kinds = _groups(observations, lambda observation: observation.kind)
    lengths = _groups(observations, lambda observation: observation.length)
    return {
        "number": row.number,
        "name": row.name,
        "question": row.question,
        "paper": row.paper,
        "target": row.target,
        "grouped": row.grouped,
        "headline": list(row.headline),
        "met": row.target_met(figures, [group["figures"] for group in kinds + lengths]),
        "seeds": list(results),
        "questions": sum(map(len, observations)),
        "figures": figures,
        "kinds": kinds,
        "lengths": lengths,
        "about": details,
    }


def _groups(
    observations: Sequence[Sequence[Observation]], group_of: Callable[[Observation], Any]
) -> list[dict[str, Any]]:
    """The figures of each group of questions in sorted order; none where there is only one group."""
    members_by_name: dict[Any, list[list[Observation]]] = {}  # by group, by seed
    for place, observations_of_seed in enumerate(observations):
        for observation in observations_of_seed:
            name = group_of(observation)
            if name not in members_by_name:
                members_by_name[name] = [[] for _ in observations]
            members_by_name[name][place].append(observation)
    if len(members_by_name) < 2:
        return []
    groups = []
    for name, members in sorted(members_by_name.items()):
        groups.append({"name": str(name), "questions": sum(map(len, members)), "figures": _figures(members)})
    return groups


def _figures(observations: Sequence[Sequence[Observation]]) -> dict[str, dict[str, Any]]:
    """The figures by name, from the observations of each seed."""
    values: dict[str, list[list[tuple[float, float]]]] = {}  # by figure, by seed
    for place, observations_of_seed in enumerate(observations):
        for observation in observations_of_seed:
            for name, value in observation.values.items():
                if name not in values:
                    values[name] = [[] for _ in observations]
                values[name][place].append(value)
    figures = {}
    for name, by_seed in values.items():
        figures[name] = asdict(nested_interval(by_seed, RESAMPLES, SEED))
    return figures


def row_title(row: Mapping[str, Any]) -> str:
    """A row's question, its target and whether it was met, in a line."""
    target = row["target"] if row["target"] == "reported" else f"target {row['target']}: {verdict(row)}"
    return f"{row['number']} {row['question']} ({target})"


def figure_rows(row: Mapping[str, Any]) -> Rows:
    """A row's figures over all questions: a line each."""
    lines = []
    for name, figure in row["figures"].items():
        lines.append([name, *figure_cells(name, figure), f"{figure['n']:,}"])
    return ["", "%", "95% interval", "n"], lines


def group_rows(row: Mapping[str, Any], groups: str) -> Rows:
    """A row's SubEM by one of GROUPS: a line a group, a column a figure; the table's JSON has the other figures."""
    names = [name for name in row["figures"] if METRIC in name]
    lines = []
    for group in row[groups]:
        cells = []
        for name in names:
            figure = group["figures"].get(name)
            cells.append(NOTHING if figure is None else " ".join(figure_cells(name, figure)))
        lines.append([group["name"], f"{group['questions']:,}", *cells])
    return [groups.removesuffix("s"), "questions", *names], lines


def count_rows(row: Mapping[str, Any]) -> Rows:
    """Figures with names like "oracle@16": a line for each pick, a column for each number after the @."""
    figures = row["figures"]
    picks: dict[str, None] = {}  # ordered sets
    counts: dict[str, None] = {}
    for name in figures:
        pick, _, count = name.partition("@")
        if count.isdigit():
            picks[pick] = None
            counts[count] = None
    lines = []
    for pick in picks:
        cells = [pick]
        for count in counts:
            cells.append(" ".join(figure_cells(pick, figures[f"{pick}@{count}"])))
        lines.append(cells)
    return ["", *(f"N = {count}" for count in counts)], lines


def figure_cells(name: str, figure: Figure) -> list[str]:
    """A figure's value in per cent, or in points where it is a difference, and its interval."""
    if figure["value"] is None:
        return [NOTHING, ""]
    form = "+.1f" if any(part in name for part in _DIFFERENCES) else ".1f"
    return [format(100 * figure["value"], form), f"[{100 * figure['low']:{form}}, {100 * figure['high']:{form}}]"]


def verdict(row: Mapping[str, Any]) -> str:
    """Whether a row's target was met, in a word."""
    if not row["figures"]:
        return "not measured"
    if row["met"] is None:
        return "" if row["target"] == "reported" else "not known"
    return "yes" if row["met"] else "missed"


def left_out(row: Mapping[str, Any]) -> str:
    """Why a row has no figures, as its seeds say it; empty where it has some."""
    if row["figures"]:
        return ""
    return "; ".join(dict.fromkeys(about["left_out"] for about in row["about"].values() if "left_out" in about))


def circumstances(measured: Mapping[str, Any], quote: str = "") -> str:
    """The command in quotes, the date, the machine and the judge, where there was one."""
    command = f"{quote}{measured['command']}{quote}"
    judge = f", judge: {measured['judge']}" if measured["judge"] else ""
    return f"{command}, {measured['date']}, {measured['machine']}{judge}"


def markdown_chapter(table: Mapping[str, Any]) -> str:
    """The table as Markdown, with the command, the machine and the date: for the README."""
    measured = table["measured"]
    lines = []
    for row in table["rows"]:
        lines.append([row["question"], _headline(row) or left_out(row), row["paper"], row["target"], verdict(row)])
    parts = [
        f"{circumstances(measured, '`')}. "
        f"Of each seed (there are {measured['seeds']}), "
        f"{measured['questions']} questions to train on and as many to measure on. "
        "In per cent, differences in points, with 95 % intervals over seeds and questions.\n",
        markdown(["question", "measured", "the paper", "target", "met"], lines),
        *_other_circumstances(table),
    ]
    for row in table["rows"]:
        columns, count_lines = count_rows(row)
        if count_lines:
            parts += [f"{row['question']} By samples N:\n", markdown(columns, count_lines)]
        for groups in GROUPS:
            if row["grouped"] and row[groups]:
                parts += [f"{row['question']} By {groups.removesuffix('s')}:\n", markdown(*group_rows(row, groups))]
    return "\n".join(parts)


def _other_circumstances(table: Mapping[str, Any]) -> list[str]:
    """A sentence for each run that has measured some of the rows later, with its own questions and seeds."""
    questions: dict[str, list[str]] = {}
    for row in table["rows"]:
        if "measured" in row:
            questions.setdefault(circumstances(row["measured"], "`"), []).append(row["question"])
    return [f"{run}: *{'*, *'.join(of_run)}*.\n" for run, of_run in questions.items()]


def _headline(row: Mapping[str, Any]) -> str:
    """The figures that answer a row's question, in a line."""
    texts = []
    for name in row["headline"] or row["figures"]:
        name = _largest_count(name, row["figures"])
        if name in row["figures"]:
            texts.append(f"{name} {' '.join(figure_cells(name, row['figures'][name]))}".strip())
    return "; ".join(texts)


def _largest_count(name: str, figures: Figures) -> str:
    """The name of the figure for the largest N, as "oracle@16" for "oracle"; a figure's own name stays."""
    if name in figures:
        return name
    counts = []
    for figure_name in figures:
        pick, _, count = figure_name.partition("@")
        if pick == name and count.isdigit():
            counts.append(int(count))
    return f"{name}@{max(counts)}" if counts else name


def figures_of(table: Mapping[str, Any], name: str) -> Figures:
    """The figures of the row of that name; none when it was not measured."""
    for row in table["rows"]:
        if row["name"] == name:
            figures: Figures = row["figures"]
            return figures
    return {}

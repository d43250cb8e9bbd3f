"""The evidence table: from what every question of every seed adds to figures, intervals, verdicts and Markdown.

A figure is Σ parts / Σ wholes over questions; its interval is a nested bootstrap, over seeds and then over the
questions of each. A target that is missed stands in the table as missed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flows.evidence import EvidenceRow, Figure, Figures, Measured, Observation
from tasks.evaluation.statistics import nested_interval
from tasks.reporting.tables import Rows, markdown

RESAMPLES = 2000
SEED = 0
METRIC = "SubEM"
_POINTS = (" gain", "gain at ", " − ")  # in the names of figures that are differences


def assembled(row: EvidenceRow, seeds: Mapping[int, Measured]) -> dict[str, Any]:
    """A row of the table, JSON-ready.

    {"number", "name", "question", "paper", "target", "headline", "met", "seeds": [...], "questions",
     "figures": {name: figure}, "kinds": [{"name", "questions", "figures"}], "lengths": the same, "about": {seed: ...}},
    a figure {"value", "low", "high", "n"}. Kinds and lengths are empty where there is but one.
    """
    whole = _figures([each.observations for each in seeds.values()])
    kinds = _groups(seeds, lambda each: each.kind)
    lengths = _groups(seeds, lambda each: each.length)
    return {
        **{name: getattr(row, name) for name in ("number", "name", "question", "paper", "target", "grouped")},
        "headline": list(row.headline),
        "met": row.met(whole, [each["figures"] for each in kinds + lengths]),
        "seeds": list(seeds),
        "questions": sum(len(each.observations) for each in seeds.values()),
        "figures": whole,
        "kinds": kinds,
        "lengths": lengths,
        "about": {str(seed): dict(each.about) for seed, each in seeds.items()},
    }


def _groups(seeds: Mapping[int, Measured], key: Any) -> list[dict[str, Any]]:
    names = sorted({key(each) for measured in seeds.values() for each in measured.observations})
    found = []
    for name in names if len(names) > 1 else ():
        of_group = [[each for each in measured.observations if key(each) == name] for measured in seeds.values()]
        found.append({"name": str(name), "questions": sum(map(len, of_group)), "figures": _figures(of_group)})
    return found


def _figures(seeds: Sequence[Sequence[Observation]]) -> dict[str, dict[str, Any]]:
    names = dict.fromkeys(name for observations in seeds for each in observations for name in each.values)
    return {
        name: asdict(nested_interval([_pairs(observations, name) for observations in seeds], RESAMPLES, SEED))
        for name in names
    }


def _pairs(observations: Iterable[Observation], name: str) -> list[tuple[float, float]]:
    return [each.values[name] for each in observations if name in each.values]


def figure_rows(row: Mapping[str, Any]) -> Rows:
    """A row's figures over all questions: a line each."""
    lines = [[name, *shown(name, each), f"{each['n']:,}"] for name, each in row["figures"].items()]
    return ["", "%", "95% interval", "n"], lines


def title(row: Mapping[str, Any]) -> str:
    """What a row asks, what was aimed at and whether it was met, in a line."""
    aimed = row["target"] if row["target"] == "reported" else f"target {row['target']}: {verdict(row)}"
    return f"{row['number']} {row['question']} ({aimed})"


def group_rows(row: Mapping[str, Any], groups: str) -> Rows:
    """A row's SubEM by kind or by length: a line a group, a column a figure; the table's JSON has the others."""
    names = [name for name in row["figures"] if METRIC in name]
    lines = [
        [each["name"], f"{each['questions']:,}"]
        + [" ".join(shown(name, each["figures"][name])) if name in each["figures"] else "—" for name in names]
        for each in row[groups]
    ]
    return [groups.removesuffix("s"), "questions", *names], lines


def shown(name: str, figure: Figure) -> list[str]:
    """A figure's value in per cent, or in points where it is a difference, and its interval."""
    if figure["value"] is None:
        return ["—", ""]
    form = "+.1f" if any(mark in name for mark in _POINTS) else ".1f"
    return [format(100 * figure["value"], form), f"[{100 * figure['low']:{form}}, {100 * figure['high']:{form}}]"]


def verdict(row: Mapping[str, Any]) -> str:
    """Whether a row's target was met, in a word."""
    if row["met"] is None:
        return "" if row["target"] == "reported" else "not known"
    return "yes" if row["met"] else "missed"


def chapter(table: Mapping[str, Any]) -> str:
    """The table as Markdown, with the command, the machine and the date: for the README."""
    measured = table["measured"]
    lines = [[row["question"], _told(row), row["paper"], row["target"], verdict(row)] for row in table["rows"]]
    parts = [
        f"`{measured['command']}`, {measured['date']}, {measured['machine']}, judge: {measured['judge']}. "
        f"Of each seed (there are {measured['seeds']}), "
        f"{measured['questions']} questions to train on and as many to measure on. "
        "In per cent, differences in points, with 95 % intervals over seeds and questions.\n",
        markdown(["question", "measured", "the paper", "target", "met"], lines),
    ]
    for row in table["rows"]:
        if (counted := count_rows(row))[1]:
            parts += [f"{row['question']} By samples N:\n", markdown(*counted)]
        for groups in ("kinds", "lengths") if row["grouped"] else ():
            if row[groups]:
                parts += [f"{row['question']} By {groups.removesuffix('s')}:\n", markdown(*group_rows(row, groups))]
    return "\n".join(parts)


def _told(row: Mapping[str, Any]) -> str:
    """The figures that answer a row's question, in a line."""
    names = [name for name in row["headline"] or row["figures"] if name in row["figures"]]
    return "; ".join(f"{name} {' '.join(shown(name, row['figures'][name]))}".strip() for name in names)


def count_rows(row: Mapping[str, Any]) -> Rows:
    """Figures with names like "oracle@16": a line each, a column for each number after the @."""
    names = [name.split("@") for name in row["figures"] if name.partition("@")[2].isdigit()]
    counts = list(dict.fromkeys(count for _, count in names))
    lines = [
        [of, *(" ".join(shown(of, row["figures"][f"{of}@{count}"])) for count in counts)]
        for of in dict.fromkeys(of for of, _ in names)
    ]
    return ["", *(f"N = {count}" for count in counts)], lines


def figures_of(table: Mapping[str, Any], name: str) -> Figures:
    """The figures of the row of that name; none when it was not measured."""
    return next((row["figures"] for row in table["rows"] if row["name"] == name), {})

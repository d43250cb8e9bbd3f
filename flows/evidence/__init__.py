"""The evidence: the effect of Longmill's methods on a small model, measured with the factory itself.

A row of the table is one file of this package with a constant `ROW`; nothing else registers it. A row measures one
seed at a time and returns what each held-out question adds to each of its figures; `table` makes the means, the
intervals and the verdicts from that. `measuring` measures rows and seeds and stores their results, `experiment` is
what a row measures with, `questions` writes the worlds, `command` is the verb `longmill evidence`.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from infra.plugins import find_plugins

if TYPE_CHECKING:
    from flows.evidence.experiment import Experiment

SEALONG, LONGREWARD = "sealong", "longreward"  # the recipes of the demo that rows build on
SAMPLE_COUNTS = (8, 16, 32)  # N of the consensus; SeaLong's answers are chosen from the largest
WORLDS, FILE = "worlds", "file"  # generated worlds, and a file of questions about real text
FILE_SAMPLE_COUNTS = (8, 16)  # the same on real text, whose models are larger

Figure = Mapping[str, Any]  # {"value", "low", "high", "n"}
Figures = Mapping[str, Figure]  # by the figure's name


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """How much is measured, and where. `changes` are to both recipes, like "execution.concurrency=8"."""

    out: str  # folder or URL of the store that holds questions, datasets, models and results
    questions: int = 256  # of each seed: trained on, and as many held out
    seeds: int = 3
    changes: tuple[str, ...] = ()
    model: str = ""  # policy in place of the recipes': a model in the box, a folder or a hub name
    file: str = ""  # questions about real text, in any format; none: questions about generated worlds
    file_format: str = "native"

    @property
    def amounts(self) -> tuple[int, ...]:
        """Numbers of questions to train on, for the row that asks how many are needed."""
        if self.file:
            return (self.questions,)
        return tuple(sorted({max(8, self.questions // 4), self.questions, 4 * self.questions}))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that can be measured: the judge in the box knows the generated world alone."""
        return (SEALONG,) if self.file else (SEALONG, LONGREWARD)

    @property
    def sample_counts(self) -> tuple[int, ...]:
        """N of the consensus, from the smallest."""
        return FILE_SAMPLE_COUNTS if self.file else SAMPLE_COUNTS

    def recipe_name(self, method: str) -> str:
        """The recipe in the box that rows of a method build on."""
        return f"real-{method}" if self.file else f"demo-{method}"

    @property
    def recipe_changes(self) -> tuple[str, ...]:
        """The changes to every recipe, those of `model` first."""
        if not self.model:
            return self.changes
        name = self.model.rstrip("/").rpartition("/")[2]
        return (
            f"policy.name={json.dumps(name)}",
            f"policy.tokenizer={json.dumps(self.model)}",
            f"policy.serve.model_path={json.dumps(self.model)}",
            *self.changes,
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """What one question of one seed adds to a row's figures: (part, whole) by figure; in a mean every whole is 1."""

    example_id: str
    kind: str
    length: int  # tokens that its context was made for
    values: Mapping[str, tuple[float, float]]  # by the figure's name; a figure without a value is left out


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One seed of a row. `details`: what else is stored, such as pairs, steps and losses; JSON-ready."""

    observations: Sequence[Observation]
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "observations": [asdict(observation) for observation in self.observations],
            "about": dict(self.details),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "SeedResult":
        """The inverse of `to_json`."""
        observations = []
        for fields in value["observations"]:
            values = {}
            for name, (part, whole) in fields["values"].items():
                values[name] = (part, whole)
            observations.append(Observation(fields["example_id"], fields["kind"], fields["length"], values))
        return SeedResult(observations, value["about"])


@dataclass(frozen=True, slots=True)
class EvidenceTableRow:
    """A row of the table."""

    number: int
    name: str
    question: str
    paper: str  # the paper's figures
    target: str
    methods: tuple[str, ...]  # the demo's recipes that decide the row's figures
    measure: Callable[["Experiment"], SeedResult]
    # Is the target met? From the figures of all questions and those of each kind and length; None without a target.
    target_met: Callable[[Figures, Sequence[Figures]], bool | None] = lambda figures, groups: None
    grouped: bool = False  # the table shows it by kind and by length too
    # The figures that answer the question, where they are not all. A name that is measured for several N ("oracle@8")
    # stands without its N for the largest.
    headline: tuple[str, ...] = ()
    texts: tuple[str, ...] = (WORLDS,)  # what it is measured on


@functools.cache
def evidence_rows() -> Mapping[str, EvidenceTableRow]:
    """All rows of this package by name, in the table's order."""
    rows: dict[str, EvidenceTableRow] = find_plugins(__name__, "ROW")
    ordered = sorted(rows.values(), key=lambda row: row.number)
    return {row.name: row for row in ordered}


def figure_value(figures: Figures, name: str, bound: str = "value") -> float | None:
    """A figure's value or bound; None where it was not measured."""
    value: float | None = figures.get(name, {}).get(bound)
    return value


def only_figure(observation: Observation, name: str, new_name: str) -> Observation:
    """The observation with the figure `name` alone, under a new name; with no figure where it has no such."""
    values = {new_name: observation.values[name]} if name in observation.values else {}
    return Observation(observation.example_id, observation.kind, observation.length, values)


def only_figures(observations: Sequence[Observation], name: str, new_name: str) -> list[Observation]:
    """`only_figure` of several observations."""
    return [only_figure(observation, name, new_name) for observation in observations]


def merge_observations(*sequences: Sequence[Observation]) -> list[Observation]:
    """One observation for each question, with the figures of all sequences; in the order of their first."""
    merged: dict[str, Observation] = {}
    for observations in sequences:
        for observation in observations:
            first = merged.get(observation.example_id, observation)
            values = {**first.values, **observation.values}
            merged[observation.example_id] = Observation(first.example_id, first.kind, first.length, values)
    return list(merged.values())

"""The evidence: what Longmill's methods do to a small model, measured through the factory itself.

A row of the table is one file of this package with a constant `ROW`; putting the file there is all it takes. A row
measures one seed at a time and says what each held-out question adds to each of its figures; the means, the intervals
and the verdicts are made from that (see table.py). `measuring` goes through rows and seeds and keeps what is done,
`workplace` is what a row measures with, `questions` writes the worlds, `command` is the verb `longmill evidence`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from infra.plugins import find_plugins

if TYPE_CHECKING:
    from flows.evidence.workplace import Workplace

SEALONG, LONGREWARD = "sealong", "longreward"  # the recipes of the demo that rows build on
SAMPLE_COUNTS = (8, 16, 32)  # N of the consensus; the largest is what SeaLong's answers are chosen from

Figure = Mapping[str, Any]  # {"value", "low", "high", "n"}
Figures = Mapping[str, Figure]  # by the figure's name


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """How much is measured, and where. `changes` are to both recipes, like "execution.concurrency=8"."""

    out: str  # folder or URL of the store that keeps everything
    questions: int = 256  # trained on, and as many held out, of each seed
    seeds: int = 3
    changes: tuple[str, ...] = ()

    @property
    def amounts(self) -> tuple[int, ...]:
        """Questions to train on, where the row asks how many are needed."""
        return tuple(sorted({max(8, self.questions // 4), self.questions, 4 * self.questions}))


@dataclass(frozen=True, slots=True)
class Observation:
    """What one question of one seed adds to a row's figures: a part and a whole each; a mean has wholes of 1."""

    example_id: str
    kind: str
    length: int  # tokens that its context was made for
    values: Mapping[str, tuple[float, float]]  # by the figure's name; left out where it is not known


@dataclass(frozen=True, slots=True)
class Measured:
    """One seed of a row. `about`: what else is worth keeping, such as pairs, steps and losses; JSON-ready."""

    observations: Sequence[Observation]
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {"observations": [asdict(each) for each in self.observations], "about": dict(self.about)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Measured":
        """The inverse of `to_json`."""
        observations = [
            Observation(**{**each, "values": {name: tuple(pair) for name, pair in each["values"].items()}})
            for each in value["observations"]
        ]
        return Measured(observations, value["about"])


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """A row of the table. `met(figures of all questions, figures of each kind and length)` says whether the target
    was; None where nothing is aimed at. `methods`: the demo's recipes that decide the row's figures. `headline`: the
    figures that answer the question, where they are not all."""

    number: int
    name: str
    question: str
    paper: str
    target: str
    methods: tuple[str, ...]
    measure: Callable[["Workplace"], Measured]
    met: Callable[[Figures, Sequence[Figures]], bool | None] = lambda figures, groups: None
    grouped: bool = False  # show it by kind and by length too
    headline: tuple[str, ...] = ()


@functools.cache
def known_rows() -> Mapping[str, EvidenceRow]:
    """All rows of this package by name, in the table's order."""
    found: dict[str, EvidenceRow] = find_plugins(__name__, "ROW")
    return dict(sorted(found.items(), key=lambda each: each[1].number))


def value_of(figures: Figures, name: str, bound: str = "value") -> float | None:
    """A figure's value or bound; None where it was not measured."""
    found: float | None = figures.get(name, {}).get(bound)
    return found


def merged(*several: Sequence[Observation]) -> list[Observation]:
    """Observations of the same questions as one each, with all their figures; in the order of their first."""
    found: dict[str, Observation] = {}
    for each in (observation for observations in several for observation in observations):
        first = found.get(each.example_id, each)
        values = {**first.values, **each.values}
        found[each.example_id] = Observation(first.example_id, first.kind, first.length, values)
    return list(found.values())

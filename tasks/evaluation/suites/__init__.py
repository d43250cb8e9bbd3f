"""Suites: how the answers of an evaluation are measured. A suite is one file with a constant `SUITE`."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from infra.errors import RecipeError
from infra.plugins import find_plugins
from tasks.records.example import Context, Example

Metric = Callable[[str, Example, Context], float | None]  # of an answer's text, in [0, 1]; None where it has no value
NO_REFERENCE = "no_reference"


@dataclass(frozen=True, slots=True)
class Suite:
    """Metrics by name. A metric that is None for an answer counts as missing: for the reason that `reasons` gives
    for the metric, else because there is no reference."""

    name: str
    metrics: Mapping[str, Metric]
    reasons: Mapping[str, str] = field(default_factory=dict)


@functools.cache
def all_suites() -> Mapping[str, Suite]:
    """All suites of this package, by name."""
    return find_plugins(__name__, "SUITE")


def find_suite(name: str) -> Suite:
    """The suite of that name. Raises RecipeError naming those there are."""
    if name not in all_suites():
        raise RecipeError(f"evaluation.suite: there is no suite {name!r}; there are: {', '.join(all_suites())}")
    return all_suites()[name]

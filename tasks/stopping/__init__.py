"""Stopping rules: when a question has answers enough, before all of `sampling.samples` are drawn.

A rule is one file of this package with a constant `RULE`; adding the file is all it takes. Samples are drawn in rounds,
and after each round the rule looks at a question's answers. What it says depends on them and on the recipe alone: a
shard that was stopped decides the same again, whatever shards came before it. Sample i is the same request as without a
rule, so a ledger serves recipes with a rule and without one.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, ValidationError

from infra.errors import RecipeError
from infra.plugins import find_plugins
from infra.recipe import Recipe, RecipeSection
from infra.recipe.faults import option_faults
from infra.recipe.models import Positive
from tasks.records.example import Answer, AnswerId, Example

_PATH = "sampling.stop"
_RULES_OF_PAIRS = ("best_vs_lower_half", "best_vs_worst")


class StopSettings(RecipeSection):
    """What every rule can be told."""

    min_samples: Annotated[int, Field(ge=2)] = Field(8, description="samples that every question gets")
    per_round: Positive = Field(4, description="samples between two looks at a question's answers")


@dataclass(frozen=True, slots=True)
class Rewarded:
    """What scorers say of the answers so far: their rewards, and which of them may never be chosen."""

    rewards: Mapping[AnswerId, float | None]
    never_chosen: frozenset[AnswerId] = frozenset()


@dataclass(frozen=True, slots=True)
class StopRule:
    """A way to say that a question needs no more samples.

    `is_decided(example, answers, settings, recipe)` looks at the samples so far, in their order. A rule that needs
    rewards has `is_decided_by` instead, which is given them too: then all answers are scored after each round.
    """

    name: str
    settings: type[StopSettings]
    is_decided: Callable[[Example, Sequence[Answer], Any, Recipe], bool] | None = None
    is_decided_by: Callable[[Example, Sequence[Answer], Rewarded, Any, Recipe], bool] | None = None


@functools.cache
def known_stop_rules() -> Mapping[str, StopRule]:
    """All rules of this package, by name."""
    return find_plugins(__name__, "RULE")


def stop_rule(recipe: Recipe) -> StopRule | None:
    """The recipe's rule; None where every question gets all samples. Raises RecipeError for one that is not there."""
    if recipe.sampling.stop is None:
        return None
    name = str(recipe.sampling.stop.get("rule"))
    if name not in known_stop_rules():
        raise RecipeError(f"{_PATH}.rule: there is no {name!r}; there are: {', '.join(known_stop_rules())}")
    return known_stop_rules()[name]


def stop_settings(recipe: Recipe) -> Any:
    """The settings of the recipe's rule, checked. Raises RecipeError naming the key at fault."""
    rule = stop_rule(recipe)
    assert rule is not None and recipe.sampling.stop is not None
    own = {key: value for key, value in recipe.sampling.stop.items() if key != "rule"}
    try:
        return rule.settings.model_validate(own)
    except ValidationError as error:
        raise RecipeError(option_faults(error, _PATH, rule.name)) from error


def check_stop(recipe: Recipe) -> None:
    """Raises RecipeError for a rule that is not there, for its settings, and where the recipe does not go with it."""
    if recipe.sampling.stop is None:
        return
    settings: StopSettings = stop_settings(recipe)
    if settings.min_samples < recipe.pairing.min_scored:
        raise RecipeError(
            f"{_PATH}.min_samples is {settings.min_samples}, and pairing.min_scored asks for "
            f"{recipe.pairing.min_scored} answers with a score; raise the first or lower the second"
        )
    if recipe.pairing.rule not in _RULES_OF_PAIRS or recipe.sampling.context == "evidence":
        raise RecipeError(
            f"{_PATH}: goes with pairing.rule {' or '.join(_RULES_OF_PAIRS)} and samples that see the same of a "
            "context; leave it out"
        )
    if stops_by_reward(recipe):
        _check_scorers(recipe)


def _check_scorers(recipe: Recipe) -> None:
    """Raises RecipeError where the answers of a round cannot be scored alone."""
    from tasks.scoring import known_scorers, parse_scorers

    if recipe.scoring.cascade is not None:
        raise RecipeError(f"{_PATH}: a rule that needs rewards does not go with scoring.cascade; leave one of them out")
    for scorer in parse_scorers(recipe):
        if known_scorers()[scorer.name].compares:
            raise RecipeError(
                f"{_PATH}: {scorer.name} compares the answers of a question, so each round would change the scores of "
                "the others; leave it out, or take rule: consensus"
            )


def stop_rounds(recipe: Recipe, rounds: Sequence[range]) -> Sequence[range]:
    """The sample indices of each round: those of the sampler, cut where it draws all samples at once."""
    if recipe.sampling.stop is None or len(rounds) > 1:
        return rounds
    settings: StopSettings = stop_settings(recipe)
    samples = recipe.sampling.samples
    ends = [*range(settings.min_samples, samples, settings.per_round), samples]
    return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def is_decided(example: Example, answers: Sequence[Answer], recipe: Recipe, rewarded: Rewarded | None = None) -> bool:
    """Whether a question with these samples needs no more of them. Without `rewarded`, a rule that needs rewards
    decides nothing."""
    rule = stop_rule(recipe)
    if rule is None:
        return False
    settings: StopSettings = stop_settings(recipe)
    if len(answers) < settings.min_samples:
        return False
    if rule.is_decided is not None:
        return rule.is_decided(example, answers, settings, recipe)
    if rule.is_decided_by is None or rewarded is None:
        return False
    return rule.is_decided_by(example, answers, rewarded, settings, recipe)


def stops_by_reward(recipe: Recipe) -> bool:
    """Whether answers have to be scored before it is known if a question needs more of them."""
    rule = stop_rule(recipe)
    return rule is not None and rule.is_decided_by is not None

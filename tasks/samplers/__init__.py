"""Samplers: what of a question's context each of its samples sees. Pairs are published with the whole of it.

A sampler is one file of this package with a constant `SAMPLER`; adding the file is all it takes. It says in which
rounds the samples are drawn, and gives each sample of a round its view of the context: a context of its own. A round
may look at the answers of those before it. Every choice depends on the recipe's seed, the question and these answers
alone, so a shard that was stopped draws the same requests again, and finds their replies in the ledger.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from infra.errors import RecipeError
from infra.plugins import find_plugins
from infra.recipe import Recipe, RecipeSection
from infra.recipe.faults import option_faults
from tasks.records.example import Answer, Context, Drop, Example

if TYPE_CHECKING:
    from tasks.contexts.built import BuiltQuestion, Inputs
    from tasks.questions import RawQuestion

FULL = "full"  # the sampler that shows every sample the whole context


@dataclass(frozen=True, slots=True)
class View:
    """What a sample sees. `seen` tells it on the answer; None where it is the whole context."""

    context: Context
    seen: str | None = None


Views = Callable[[Example, Context, Recipe, Sequence[int], Sequence[Answer]], list[View]]
Prepare = Callable[["RawQuestion", "BuiltQuestion", "Inputs"], "BuiltQuestion | Drop"]


class NoOptions(RecipeSection):
    """A sampler without options of its own."""


def _one_round(recipe: Recipe) -> Sequence[range]:
    return [range(recipe.sampling.samples)]


def _no_check(recipe: Recipe) -> None:
    """Goes with every recipe."""


def no_short_context(example: Example, context: Context, recipe: Recipe) -> Context | None:
    """Of samplers that publish the whole context alone."""
    return None


@dataclass(frozen=True, slots=True)
class Sampler:
    """A way to show samples a context. `about` says in a few words what they see.

    `views(example, context, recipe, indices, earlier)` gives the view of each sample of a round, where `earlier` are
    the answers of the rounds before. `rounds(recipe)` are the sample indices of each round: more samples add rounds at
    the end. `prepare(question, built, inputs)` finds what is needed in the question's row while the plan is made, and
    counts the tokens of the samples. `check(recipe)` raises RecipeError for a recipe that it does not go with.
    `short(example, context, recipe)` is the context of the prompt that is published beside the whole one; None where
    there is none.
    """

    name: str
    about: str
    views: Views
    rounds: Callable[[Recipe], Sequence[range]] = _one_round
    prepare: Prepare | None = None
    options: type[RecipeSection] = NoOptions
    check: Callable[[Recipe], None] = _no_check
    short: Callable[[Example, Context, Recipe], Context | None] = no_short_context


@functools.cache
def known_samplers() -> Mapping[str, Sampler]:
    """All samplers of this package, by name."""
    return find_plugins(__name__, "SAMPLER")


def find_sampler(name: str) -> Sampler:
    """A sampler by its name. Raises RecipeError naming those that there are."""
    if name not in known_samplers():
        raise RecipeError(f"sampling.context: there is no {name!r}; there are: {', '.join(known_samplers())}")
    return known_samplers()[name]


def sampler_options(recipe: Recipe) -> Any:
    """The options of the recipe's sampler, checked. Raises RecipeError naming the key at fault."""
    sampler = find_sampler(recipe.sampling.context)
    try:
        return sampler.options.model_validate(recipe.sampling.options)
    except ValidationError as error:
        raise RecipeError(option_faults(error, "sampling.options", sampler.name)) from error


def check_sampler(recipe: Recipe) -> None:
    """Raises RecipeError for a sampler that is not there, for its options, and where the recipe does not go with it."""
    sampler_options(recipe)
    find_sampler(recipe.sampling.context).check(recipe)

"""Contexts: every question gets its long text, with exact token counts, or becomes a counted drop.

A builder is one file of this package with a constant `BUILDER`; adding the file is all it takes. It gets questions and
gives each a context: a text with the spans of its parts, or chat messages (spans with roles). Every draw is seeded by
the recipe's seed and the example id, so a question's context is the same in any batch and in any process. Memory holds
one batch of questions and the pool.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError

from infra.errors import RecipeError
from infra.models.tokens import Tokenizer
from infra.plugins import find_plugins
from infra.recipe import Questions, Recipe, RecipeSection
from infra.recipe.faults import option_faults
from tasks.contexts.built import BuiltQuestion, Inputs
from tasks.planning.distractors import NO_POOL, Pool, passage_sizes
from tasks.planning.limits import PromptLimits
from tasks.questions import Build, RawQuestion
from tasks.records.example import Document, Drop
from tasks.samplers import find_sampler

__all__ = [
    "SIZES_AT_ONCE",
    "BuiltQuestion",
    "ContextBuilder",
    "Inputs",
    "build_batch",
    "context_builder",
    "context_builders",
    "context_options",
    "gather_pool_for",
    "pool_sizes",
]

Outcomes = dict[str, BuiltQuestion | Drop]  # by example id
SIZES_AT_ONCE = 256  # documents


class NoOptions(RecipeSection):
    """A builder without options of its own."""


def _no_pool(recipe: Recipe, questions: Questions) -> Pool:
    return NO_POOL


@dataclass(frozen=True, slots=True)
class ContextBuilder:
    """A way to give questions their contexts. `about` says in a few words what it makes.

    `build(questions, inputs)` returns an outcome for each question. `reads`: what a row must bring (`read_questions`).
    `gather(recipe, questions)` reads what contexts are made longer with, and `sizes(documents, recipe, tokenizer)` says
    about how many tokens each of it takes. `options` are the keys of `contexts.options`. `draws`: it aims at target
    lengths.
    """

    name: str
    build: Callable[[Sequence[RawQuestion], Inputs], Outcomes]
    about: str
    reads: Build
    gather: Callable[[Recipe, Questions], Pool] = _no_pool
    sizes: Callable[[Sequence[Document], Recipe, Tokenizer], list[int]] = passage_sizes
    options: type[RecipeSection] = NoOptions
    draws: bool = True


@cache
def context_builders() -> Mapping[str, ContextBuilder]:
    """All builders by name: every file of this folder that holds a BUILDER."""
    return find_plugins(__name__, "BUILDER")


def context_builder(name: str) -> ContextBuilder:
    """A builder by its name. Raises RecipeError naming those that exist."""
    if name not in context_builders():
        raise RecipeError(f"contexts.build: there is no {name!r}; there are: {', '.join(context_builders())}")
    return context_builders()[name]


def context_options(recipe: Recipe) -> Any:
    """The options of the recipe's builder, checked. Raises RecipeError naming the key at fault."""
    builder = context_builder(recipe.contexts.build)
    try:
        return builder.options.model_validate(recipe.contexts.options)
    except ValidationError as error:
        raise RecipeError(option_faults(error, "contexts.options", builder.name)) from error


def gather_pool_for(recipe: Recipe, questions: Questions) -> Pool:
    """What the recipe's contexts are made longer with, not counted. Raises InputError for a source without it."""
    return context_builder(recipe.contexts.build).gather(recipe, questions)


def pool_sizes(documents: Sequence[Document], recipe: Recipe, tokenizer: Tokenizer) -> list[int]:
    """About how many tokens each document of the recipe's pool takes."""
    sizes: list[int] = []
    for start in range(0, len(documents), SIZES_AT_ONCE):
        some = documents[start : start + SIZES_AT_ONCE]
        sizes += context_builder(recipe.contexts.build).sizes(some, recipe, tokenizer)
    return sizes


def build_batch(
    questions: Sequence[RawQuestion], recipe: Recipe, tokenizer: Tokenizer, pool: Pool, limits: PromptLimits
) -> list[BuiltQuestion | Drop]:
    """A BuiltQuestion or Drop for each question. It depends on the question alone, and not on the others.

    What the recipe's sampler has to know of a question is found here, where its row is still at hand.
    """
    inputs = Inputs(recipe, tokenizer, pool, limits, context_options(recipe))
    outcomes = context_builder(recipe.contexts.build).build(questions, inputs)
    prepare = find_sampler(recipe.sampling.context).prepare
    built: list[BuiltQuestion | Drop] = []
    for question in questions:
        outcome = outcomes[question.example_id]
        built.append(outcome if prepare is None or isinstance(outcome, Drop) else prepare(question, outcome, inputs))
    return built

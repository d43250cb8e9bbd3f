"""A range of a source's rows, read and built by whoever has it: the process that plans, or a worker of it."""

from dataclasses import dataclass

from infra.errors import LongmillError
from infra.models.tokens import Tokenizer
from infra.recipe import Questions, Recipe
from tasks.contexts import BuiltQuestion, build_batch, context_builder
from tasks.planning.distractors import Pool
from tasks.planning.limits import PromptLimits
from tasks.questions import RawQuestion, read_each
from tasks.questions.ranges import RowRange, read_range
from tasks.questions.repeats import Identity
from tasks.records.example import Drop


@dataclass(frozen=True, slots=True)
class BuiltRow:
    """The outcome of a question as if no row before had its id; None where one of the same range has."""

    identity: Identity | None
    outcome: BuiltQuestion | Drop | None


@dataclass(frozen=True, slots=True)
class BuiltRange:
    """The questions of a range in their order, up to the first `fault`."""

    rows: list[BuiltRow]
    fault: LongmillError | None


def build_range(
    rows: RowRange, questions: Questions, recipe: Recipe, tokenizer: Tokenizer, pool: Pool, limits: PromptLimits
) -> BuiltRange:
    """Read a range and build the contexts of its questions. Raises RecipeError where a prompt cannot be written."""
    fault = None
    outcomes: list[tuple[Identity | None, RawQuestion | Drop | None]] = []
    ids = set()
    try:
        for question in read_each(read_range(rows), questions, context_builder(recipe.contexts.build).reads):
            repeats = question.identity is not None and question.identity.key in ids
            outcomes.append((question.identity, None if repeats else question.outcome))
            if question.identity is not None:
                ids.add(question.identity.key)
    except LongmillError as error:
        fault = error
    to_build = [outcome for _, outcome in outcomes if isinstance(outcome, RawQuestion)]
    built = iter(build_batch(to_build, recipe, tokenizer, pool, limits))
    results = []
    for identity, outcome in outcomes:
        results.append(BuiltRow(identity, next(built) if isinstance(outcome, RawQuestion) else outcome))
    return BuiltRange(results, fault)

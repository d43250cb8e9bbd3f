"""Building the contexts of all questions of a source, in its order: in this process, or in several.

Questions are read and checked here, one after another, as a repeated id is found by what came before. Batches of them
are built here, and where there is much text by worker processes (workers.py); a batch's outcome depends on neither.
Memory holds a few batches and the pool.
"""

from collections.abc import Iterable, Iterator, Sequence

from infra.models.tokens import Tokenizer
from infra.recipe import Questions, Recipe
from tasks.contexts import BuiltQuestion, build_batch, context_builder, gather_pool_for
from tasks.planning.distractors import Pool
from tasks.planning.limits import prompt_limits
from tasks.planning.workers import planning_processes, planning_workers
from tasks.questions import RawQuestion, read_questions
from tasks.records.example import Drop

SMALL_CHARACTERS = 16_000_000  # of text; so much is built here before other processes are worth their start
_BATCH_QUESTIONS = 32
_BATCH_CHARACTERS = 8_000_000
_BATCH_TOKENS = 2_000_000  # of pooled contexts made at once

Outcome = RawQuestion | Drop
Batch = list[Outcome]


def build_examples(
    recipe: Recipe, tokenizer: Tokenizer, questions: Questions | None = None, pool: Pool | None = None
) -> Iterator[BuiltQuestion | Drop]:
    """One BuiltQuestion or Drop for every row of `questions` (default: the recipe's), in the source's order.

    `pool` is the recipe's own when it is not given. Raises InputError for input that cannot be read.
    """
    settings = questions or recipe.questions
    pool = pool or gather_pool_for(recipe, settings, tokenizer)
    size = _BATCH_QUESTIONS
    builder = context_builder(recipe.contexts.build)
    if builder.draws:
        size = max(1, min(size, _BATCH_TOKENS // recipe.contexts.max_tokens))
    outcomes = read_questions(settings, builder.reads)
    if pool.articles is not None:
        outcomes = pool.articles.replaced(outcomes)
    for batch, built in _built(_batches(outcomes, size), recipe, tokenizer, pool):
        of_batch = iter(built)
        for outcome in batch:
            yield outcome if isinstance(outcome, Drop) else next(of_batch)


def _built(
    batches: Iterator[Batch], recipe: Recipe, tokenizer: Tokenizer, pool: Pool
) -> Iterator[tuple[Batch, Sequence[BuiltQuestion | Drop]]]:
    """Each batch with the outcomes of its questions."""
    limits = prompt_limits(recipe, tokenizer)
    several = planning_processes(recipe) > 1
    characters = 0
    for batch in batches:
        built = build_batch(_questions(batch), recipe, tokenizer, pool, limits)
        yield batch, built
        for outcome in built:
            characters += len(outcome.context.text) if isinstance(outcome, BuiltQuestion) else 0
        if several and characters > SMALL_CHARACTERS:
            break
    else:
        return
    with planning_workers(recipe, tokenizer, pool) as workers:
        if workers is not None:
            yield from workers.build((batch, _questions(batch)) for batch in batches)
            return
    for batch in batches:
        yield batch, build_batch(_questions(batch), recipe, tokenizer, pool, limits)


def _questions(batch: Batch) -> list[RawQuestion]:
    return [outcome for outcome in batch if not isinstance(outcome, Drop)]


def _batches(outcomes: Iterable[Outcome], questions: int) -> Iterator[Batch]:
    """Outcomes in batches of few questions and few characters."""
    batch: Batch = []
    characters = 0
    for outcome in outcomes:
        size = 0
        if not isinstance(outcome, Drop):
            size = len(outcome.context or "")
            for document in (*outcome.documents, *outcome.distractors):
                size += len(document.text)
        if batch and (len(batch) == questions or characters + size > _BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(outcome)
        characters += size
    if batch:
        yield batch

"""Building the contexts of all questions of a source, in its order: in this process, or in several.

Where a source can be cut into ranges of rows (tasks/questions/ranges.py), whoever builds a range reads it too. Else
questions are read here. A repeated id is found here, as only the source's order tells which came first. What is built
does not depend on who builds it. Where there is much text, worker processes do it (workers.py). Memory holds a few
ranges or batches and the pool, which is a mapped file once there are workers.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace

from infra.models.tokens import Tokenizer
from infra.recipe import Questions, Recipe
from tasks.contexts import BuiltQuestion, build_batch, context_builder, gather_pool_for, pool_sizes
from tasks.planning.built_range import BuiltRange, build_range
from tasks.planning.distractors import Pool
from tasks.planning.limits import prompt_limits
from tasks.planning.workers import PlanningWorkers, planning_workers
from tasks.questions import RawQuestion, question_format, read_questions
from tasks.questions.question import one_row
from tasks.questions.ranges import RowRange, row_ranges
from tasks.questions.repeats import FirstRows
from tasks.records.example import Drop

SMALL_CHARACTERS = 4_000_000  # of text; so much is built here before other processes are worth their start
_BATCH_QUESTIONS = 32
_BATCH_CHARACTERS = 8_000_000
_BATCH_TOKENS = 2_000_000  # of pooled contexts made at once

Outcome = RawQuestion | Drop
Batch = list[Outcome]


def build_examples(
    recipe: Recipe, tokenizer: Tokenizer, questions: Questions | None = None
) -> Iterator[BuiltQuestion | Drop]:
    """One BuiltQuestion or Drop for every row of `questions` (default: the recipe's), in the source's order.

    Raises InputError for input that cannot be read.
    """
    settings = questions or recipe.questions
    with planning_workers(recipe, settings, tokenizer) as workers:
        pool = counted_pool(recipe, settings, tokenizer, workers)
        yield from build_with(pool, workers, recipe, settings, tokenizer)


def counted_pool(recipe: Recipe, questions: Questions, tokenizer: Tokenizer, workers: PlanningWorkers) -> Pool:
    """The recipe's pool with the tokens of its documents; a large one is counted by the workers."""
    pool = gather_pool_for(recipe, questions)
    characters = 0
    for document in pool.documents:
        characters += len(document.text)
    shared = workers.start(pool) if characters > SMALL_CHARACTERS else None
    return shared or replace(pool, tokens=tuple(pool_sizes(pool.documents, recipe, tokenizer)))


def build_with(
    pool: Pool, workers: PlanningWorkers, recipe: Recipe, questions: Questions, tokenizer: Tokenizer
) -> Generator[BuiltQuestion | Drop, None, None]:
    """The outcome of every question of a source, with a pool that is there."""
    size = _BATCH_QUESTIONS
    builder = context_builder(recipe.contexts.build)
    if builder.draws:
        size = max(1, min(size, _BATCH_TOKENS // recipe.contexts.max_tokens))
    ranges = None
    if pool.articles is None and question_format(questions.format).rows is one_row:
        ranges = row_ranges(questions.source, questions.subset, questions.split, questions.limit, size)
    if ranges is not None:
        yield from _different(_built_ranges(ranges, pool, workers, recipe, questions, tokenizer))
        return
    outcomes = read_questions(questions, builder.reads)
    if pool.articles is not None:
        outcomes = pool.articles.replaced(outcomes)
    for batch, built in _built(_batches(outcomes, size), pool, workers, recipe, tokenizer):
        of_batch = iter(built)
        for outcome in batch:
            yield outcome if isinstance(outcome, Drop) else next(of_batch)


def _different(ranges: Iterable[BuiltRange]) -> Iterator[BuiltQuestion | Drop]:
    """The outcomes of all ranges, with a drop for each id that was there before. Raises the first fault."""
    first_rows = FirstRows()
    for built in ranges:
        for row in built.rows:
            outcome = first_rows.repetition(row.identity) or row.outcome
            assert outcome is not None  # only a repetition has none
            yield outcome
        if built.fault is not None:
            raise built.fault


def _built_ranges(
    ranges: Iterator[RowRange],
    pool: Pool,
    workers: PlanningWorkers,
    recipe: Recipe,
    questions: Questions,
    tokenizer: Tokenizer,
) -> Iterator[BuiltRange]:
    limits = prompt_limits(recipe, tokenizer)
    characters = 0
    while not workers.started:
        rows = next(ranges, None)
        if rows is None:
            return
        built = build_range(rows, questions, recipe, tokenizer, pool, limits)
        yield built
        for row in built.rows:
            characters += _characters(row.outcome)
        if characters > SMALL_CHARACTERS:
            workers.start(pool)
            break
    if workers.started:
        for _, built in workers.build_ranges(ranges):
            yield built
        return
    for rows in ranges:
        yield build_range(rows, questions, recipe, tokenizer, pool, limits)


def _built(
    batches: Iterator[Batch], pool: Pool, workers: PlanningWorkers, recipe: Recipe, tokenizer: Tokenizer
) -> Iterator[tuple[Batch, Sequence[BuiltQuestion | Drop]]]:
    """Each batch with the outcomes of its questions."""
    limits = prompt_limits(recipe, tokenizer)
    characters = 0
    while not workers.started:
        batch = next(batches, None)
        if batch is None:
            return
        built = build_batch(_questions(batch), recipe, tokenizer, pool, limits)
        yield batch, built
        for outcome in built:
            characters += _characters(outcome)
        if characters > SMALL_CHARACTERS:
            workers.start(pool)
            break
    if workers.started:
        yield from workers.build((batch, _questions(batch)) for batch in batches)
        return
    for batch in batches:
        yield batch, build_batch(_questions(batch), recipe, tokenizer, pool, limits)


def _characters(outcome: BuiltQuestion | Drop | None) -> int:
    return len(outcome.context.text) if isinstance(outcome, BuiltQuestion) else 0


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

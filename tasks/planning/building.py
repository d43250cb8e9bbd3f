"""Building the contexts of all questions of a source, in its order: in this process, or in several.

Where a source can be cut into ranges of rows (tasks/questions/ranges.py), whoever builds a range reads it too. Else
questions are read here. A repeated id is found here, as only the source's order tells which came first. What is built
does not depend on who builds it. Where there is much text, worker processes do it (workers.py). Memory holds a few
ranges or batches and the pool, which is a mapped file once there are workers.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from infra.models.tokens import Tokenizer
from infra.recipe import Questions, Recipe
from tasks.contexts import BuiltQuestion, build_batch, context_builder, gather_pool_for, pool_sizes
from tasks.planning.built_range import BuiltRange, build_range
from tasks.planning.distractors import Pool
from tasks.planning.limits import prompt_limits
from tasks.planning.workers import PlanningWorkers
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
Item = TypeVar("Item")
Built = TypeVar("Built")


def counted_pool(recipe: Recipe, questions: Questions, tokenizer: Tokenizer, workers: PlanningWorkers) -> Pool:
    """The recipe's pool with the tokens of its documents; a large one is counted by the workers."""
    pool = gather_pool_for(recipe, questions)
    characters = 0
    for document in pool.documents:
        characters += len(document.text)
    shared = workers.start(pool, tokenizer) if characters > SMALL_CHARACTERS else None
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
        limits = prompt_limits(recipe, tokenizer)

        def build_rows(rows: RowRange) -> BuiltRange:
            return build_range(rows, questions, recipe, tokenizer, pool, limits)

        start = partial(workers.start, pool, tokenizer)
        built_ranges = _shared_out(ranges, build_rows, workers.build_ranges, _characters_of_range, start, workers)
        yield from _different(built for _, built in built_ranges)
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


def _built(
    batches: Iterator[Batch], pool: Pool, workers: PlanningWorkers, recipe: Recipe, tokenizer: Tokenizer
) -> Iterator[tuple[Batch, Sequence[BuiltQuestion | Drop]]]:
    """Each batch with the outcomes of its questions."""
    limits = prompt_limits(recipe, tokenizer)

    def build(batch: Batch) -> Sequence[BuiltQuestion | Drop]:
        return build_batch(_questions(batch), recipe, tokenizer, pool, limits)

    def build_elsewhere(left: Iterator[Batch]) -> Iterator[tuple[Batch, Sequence[BuiltQuestion | Drop]]]:
        return workers.build((batch, _questions(batch)) for batch in left)

    start = partial(workers.start, pool, tokenizer)
    return _shared_out(batches, build, build_elsewhere, _characters, start, workers)


def _shared_out(
    items: Iterator[Item],
    build: Callable[[Item], Built],
    build_elsewhere: Callable[[Iterator[Item]], Iterator[tuple[Item, Built]]],
    characters_of: Callable[[Built], int],
    start: Callable[[], object],
    workers: PlanningWorkers,
) -> Iterator[tuple[Item, Built]]:
    """Each item with what was built: here until there was much text, then by the workers, if there are any."""
    characters = 0
    while not workers.started and characters <= SMALL_CHARACTERS:
        item = next(items, None)
        if item is None:
            return
        built = build(item)
        yield item, built
        characters += characters_of(built)
    if not workers.started:
        start()
    if workers.started:
        yield from build_elsewhere(items)
        return
    for item in items:
        yield item, build(item)


def _characters(outcomes: Iterable[BuiltQuestion | Drop | None]) -> int:
    """Characters of the contexts that were built."""
    return sum(len(outcome.context.text) for outcome in outcomes if isinstance(outcome, BuiltQuestion))


def _characters_of_range(built: BuiltRange) -> int:
    return _characters(row.outcome for row in built.rows)


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

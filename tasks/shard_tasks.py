"""The Prefect tasks of a shard. A task is a micro-batch: Prefect's overhead is per task, not per call.

    sample       answers of some questions
    pair         the pairs and drops of the whole shard

Those of scorers are in step_tasks.py. A task gets live objects (`infra.running.prefect.live`) and returns JSON:
references to tables in the store. Prefect caches it. A result whose table has gone is made again, so Prefect's cache
saves time and never decides what is paid for.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prefect import task

from infra.canonical import fingerprint
from infra.models.batches.lines import MOST_LINES
from infra.models.completions import FINISHED
from infra.recipe import Recipe
from infra.running import progress
from infra.running.prefect import TASK_SETTINGS, cache_key, live
from infra.store import Store
from tasks.asking.estimate import calls_per_question
from tasks.judging.context import AnsweredQuestion
from tasks.judging.refusals import unfounded_refusals
from tasks.pairing import pair_example
from tasks.records import example as records
from tasks.records.example import Answer, Context, Drop, Example, Judgement, Pair
from tasks.records.plan import Plan
from tasks.records.product import QUESTIONS
from tasks.records.question import QUESTION, WrittenQuestion
from tasks.records.shard import NO_RERUNS, Reruns
from tasks.records.table import StoredTable
from tasks.refused_answers import refusal_words
from tasks.resources import RunResources
from tasks.retried_drops import has_due_answer
from tasks.sampling import draw_answers, saved_samples
from tasks.scoring import known_scorers, pairing_rewards, parse_scorers
from tasks.spending import count_reused_answers
from tasks.step_tasks import IsWhole, RunTask, StepPlace, named_in_errors, store_key

Span = tuple[int, int]  # examples [start, stop) of a shard

MOST_SPANS = 40  # of a shard; with at most some twenty tasks for each, a flow run has fewer than a thousand
MOST_CALL_BATCHES = 200  # of a shard's calls to the judge

_SCHEMAS = {
    "answers": (Answer, records.ANSWER),
    "judgements": (Judgement, records.JUDGEMENT),
    "pairs": (Pair, records.PAIR),
    "questions": (WrittenQuestion, QUESTION),
    "drops": (Drop, records.DROP),
}


@dataclass(frozen=True, slots=True)
class ShardInMemory:
    """A shard that is worked on: its examples and contexts, and the resources of the run."""

    resources: RunResources
    plan: Plan
    index: int
    examples: list[Example]
    contexts: dict[str, Context]
    run_task: RunTask
    reruns: Reruns = NO_RERUNS

    @property
    def key(self) -> str:
        """Of the shard in Prefect's cache. It names the store: a table of another store is of no use in this one."""
        return f"{store_key(self.resources.store)}-{self.plan.plan_id}-{self.index}{self.rerun_key}"

    @property
    def rerun_key(self) -> str:
        """The end of keys in Prefect's cache: what an earlier run of the shard has cached is not used by a re-run."""
        return f"-rerun{self.reruns.count}" if self.reruns.count else ""

    def step_place(self, span: Span) -> StepPlace:
        """Where the steps of the questions of a span are done."""
        label = f"shard {self.index:04d} · {self.spans(span)}"
        return StepPlace(self.resources, label, self.run_task, calls_per_batch(self), self.rerun_key)

    def run(self, prefect_task: Any, arguments: tuple[Any, ...], is_whole: IsWhole) -> tuple[Any, bool]:
        """What a task returned, and whether it had run before."""
        return self.run_task(prefect_task, arguments, is_whole, self.resources.recipe.execution)

    def spans(self, span: Span) -> str:
        """A span as a person counts: "questions 1-10"."""
        return f"questions {span[0] + 1}-{span[1]}"


@task(name="sample", task_run_name="{label}", cache_key_fn=cache_key, **TASK_SETTINGS)
def sample(
    shard: ShardInMemory, span: Span, round_alone: "SamplingRound | None", label: str, key: str
) -> dict[str, Any]:
    """Draw the answers of the shard's examples in `span`; returns their table: {"path", "sha256", "rows"}."""
    resources = shard.resources
    examples = shard.examples[span[0] : span[1]]
    models = resources.policy, resources.strong
    earlier = None
    if round_alone is not None:
        examples = [example for example in examples if example.example_id in round_alone.open_ids]
        earlier = round_alone.earlier
    with named_in_errors(label):
        answers = draw_answers(examples, shard.contexts, resources.recipe, *models, shard.plan.special_tokens, earlier)
    if round_alone is None:
        progress.advance("sample", saved_samples(len(examples), answers, resources.recipe))
    return put_table(shard, "answers", answers).to_json()


@task(name="pair", task_run_name="{label}", cache_key_fn=cache_key, **TASK_SETTINGS)
def pair(
    shard: ShardInMemory, answers: list[Answer], judgements: list[Judgement], label: str, key: str
) -> dict[str, dict[str, Any]]:
    """Pick the shard's pairs; every example without one becomes a drop. Returns the shard's four tables."""
    recipe = shard.resources.recipe
    reward = pairing_rewards(judgements, recipe)
    never_chosen = unfounded_refusals(judgements)
    words = refusal_words(answers, shard.resources.ledger)
    by_example: dict[str, list[Answer]] = {}
    for answer in answers:
        by_example.setdefault(answer.example_id, []).append(answer)
    pairs: list[Pair] = []
    drops: list[Drop] = []
    for example in shard.examples:
        of_example = by_example[example.example_id]
        outcome = pair_example(example, of_example, reward, recipe.pairing, recipe.seed, never_chosen, words)
        if isinstance(outcome, Drop):
            drops.append(outcome)
        else:
            pairs.extend(outcome)
    tables: dict[str, list[Any]] = {"answers": answers, "judgements": judgements, "pairs": pairs, "drops": drops}
    return {kind: put_table(shard, kind, rows).to_json() for kind, rows in tables.items()}


@dataclass(frozen=True, slots=True)
class SamplingRound:
    """A round of samples that is drawn alone: its number, the questions that go on, and the answers that they have."""

    number: int
    open_ids: frozenset[str]
    earlier: tuple[Answer, ...]


def sample_span(shard: ShardInMemory, span: Span, round_alone: SamplingRound | None = None) -> list[Answer]:
    """The answers of the examples in `span`, or those of one round, in a task run or from an earlier one."""
    if "answers" in shard.reruns.tables:
        return _earlier_answers(shard, span)
    label = f"sample · shard {shard.index:04d} · {shard.spans(span)}"
    key = f"{shard.key}-{span[0]}-{span[1]}"
    if round_alone is not None:
        label += f" · round {round_alone.number}"
        key += f"-{fingerprint([sorted(round_alone.open_ids), [asdict(answer) for answer in round_alone.earlier]])}"
    arguments = (live(shard), span, live(round_alone), label, key)
    table, cached = shard.run(sample, arguments, lambda result: answers_hold(shard, result))
    answers: list[Answer] = load_rows(shard.resources.store, "answers", StoredTable.from_json(table))
    if cached:
        count_reused_answers(shard.resources, shard.plan, shard.index, answers)
    return answers


def _earlier_answers(shard: ShardInMemory, span: Span) -> list[Answer]:
    """The answers of the examples in `span` that the shard takes over from its last run."""
    of_span = {example.example_id for example in shard.examples[span[0] : span[1]]}
    answers: list[Answer] = []
    for answer in load_rows(shard.resources.store, "answers", shard.reruns.tables["answers"]):
        if answer.example_id in of_span:
            answers.append(answer)
    count_reused_answers(shard.resources, shard.plan, shard.index, answers)
    progress.advance("sample", len(answers))
    return answers


def earlier_judgements(shard: ShardInMemory) -> list[Judgement] | None:
    """The judgements that the shard takes over from its last run; None where it makes them."""
    table = shard.reruns.tables.get("judgements")
    return None if table is None else load_rows(shard.resources.store, "judgements", table)


def pair_shard(shard: ShardInMemory, answers: list[Answer], judgements: list[Judgement]) -> dict[str, StoredTable]:
    """The shard's four tables, in a task run or from an earlier one."""
    content = fingerprint([[asdict(answer) for answer in answers], [asdict(judgement) for judgement in judgements]])
    arguments = (
        live(shard),
        live(answers),
        live(judgements),
        f"pair · shard {shard.index:04d}",
        f"{shard.key}-{content}",
    )
    tables, _ = shard.run(pair, arguments, lambda result: _exist(shard, list(result.values())))
    return {kind: StoredTable.from_json(table) for kind, table in tables.items()}


def calls_per_batch(shard: ShardInMemory) -> int:
    """Most calls of a task: `batch_calls`, or more where the shard would have too many tasks or calls go as batches."""
    recipe = shard.resources.recipe
    if recipe.sends_batches():
        return MOST_LINES
    if shard.plan.product == QUESTIONS:
        calls_each = calls_per_question(recipe)
    else:
        longest = max((context.tokens for context in shard.contexts.values()), default=0)
        calls_each = judge_calls_per_example(recipe, longest)
    expected = len(shard.examples) * calls_each
    return max(recipe.execution.batch_calls, math.ceil(expected / MOST_CALL_BATCHES))


def judge_calls_per_example(recipe: Recipe, context_tokens: int) -> int:
    """Calls to the judge that the recipe's scorers expect for one example; 0 where they ask nobody."""
    expected = 0.0
    for scorer in parse_scorers(recipe):
        calls = known_scorers()[scorer.name].calls(scorer.settings, recipe, context_tokens)
        expected += sum(calls.values())
    return math.ceil(expected)


def cut_spans(examples: int, calls_per_example: int, batch_calls: int) -> list[Span]:
    """The examples of a shard in spans of at most `batch_calls` calls, one example at least, MOST_SPANS at most."""
    size = batch_calls // calls_per_example if calls_per_example else examples
    size = max(1, size, -(-examples // MOST_SPANS))
    return [(first, min(first + size, examples)) for first in range(0, examples, size)]


def answered_questions(shard: ShardInMemory, span: Span, answers: Sequence[Answer]) -> list[AnsweredQuestion]:
    """The questions of a span with their sampled answers: without the greedy and the stronger model's.

    A question of which none is among `answers` is left out.
    """
    by_example: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.sample_index >= 0:
            by_example.setdefault(answer.example_id, []).append(answer)
    questions = []
    for example in shard.examples[span[0] : span[1]]:
        if example.example_id in by_example:
            context = shard.contexts[example.context_id]
            questions.append(AnsweredQuestion(example, context, tuple(by_example[example.example_id])))
    return questions


def load_rows(store: Store, kind: str, table: StoredTable) -> list[Any]:
    """The rows of a table that a task wrote."""
    record, _ = _SCHEMAS[kind]
    return records.from_table(table.read_checked(store), record)


def put_table(shard: ShardInMemory, kind: str, rows: list[Any]) -> StoredTable:
    """Write a table under a name made of its content."""
    stem = f"plans/{shard.plan.plan_id}/shards/{shard.index:04d}/{kind}"
    return StoredTable.put(shard.resources.store, stem, records.to_table(rows, _SCHEMAS[kind][1]))


def answers_hold(shard: ShardInMemory, table: dict[str, Any]) -> bool:
    """Whether a table of answers is what sampling would give now.

    An unfinished text is a fragment, which earlier versions took for an answer.
    """
    if not _exist(shard, [table]):
        return False
    answers = load_rows(shard.resources.store, "answers", StoredTable.from_json(table))
    if any(answer.text and answer.finish_reason not in FINISHED for answer in answers):
        return False
    return not has_due_answer(answers, shard.resources.ledger, shard.resources.refusals)


def _exist(shard: ShardInMemory, tables: Sequence[dict[str, Any]]) -> bool:
    """True when every table is still in the store."""
    return all(StoredTable.from_json(table).exists(shard.resources.store) for table in tables)

"""One shard of a plan: sample, score, pair (or: write questions, check), then the shard's result. It can be run again
alone.

The shard is cut into spans of questions. Some spans are sampled at once; as soon as a span has its answers it is
scored, so the judge works while the policy still answers. A shard that fails leaves its error beside its place in
the store, where `longmill status` reads it. What its calls brought is in the ledger and in Prefect's cache, so a
re-run does only what is missing.
"""

import contextlib
import math
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from prefect.runtime import flow_run

from flows.task_threads import TASKS_AT_ONCE, task_threads
from infra.errors import LongmillError, StoreError
from infra.recipe import Execution, Recipe
from infra.running import progress
from infra.running.telemetry import span
from infra.store import Store
from tasks.asking.checks import Candidate
from tasks.asking.estimate import calls_per_question
from tasks.asking.work import ask_questions, tables_of
from tasks.records.example import Answer, Judgement
from tasks.records.plan import Plan, load_shard
from tasks.records.product import PAIRS, QUESTIONS
from tasks.records.shard import (
    ShardResult,
    discard_shard_result,
    forget_failure,
    read_reruns,
    read_shard_result,
    write_failure,
    write_shard_result,
)
from tasks.refused_answers import refusal_words, with_words
from tasks.resources import RunResources
from tasks.retried_drops import has_due_drop
from tasks.sampling import calls_per_example
from tasks.sampling_by_reward import sample_by_reward
from tasks.scoring import parse_scorers
from tasks.scoring.stages import score_by_recipe
from tasks.shard_part import write_shard_part
from tasks.shard_tasks import (
    ShardInMemory,
    Span,
    answered_questions,
    cut_spans,
    earlier_judgements,
    load_rows,
    pair_shard,
    put_table,
    sample_span,
)
from tasks.spending import count_earlier_spending, count_finished, forget_spending
from tasks.step_tasks import Submit, TaskSteps, run_in_prefect
from tasks.stopping import stops_by_reward
from tasks.yield_gate import check_shard

FEWEST_SPANS = 16  # of a plan, if it has as many questions


def work_on_shard(resources: RunResources, plan: Plan, index: int) -> ShardResult:
    """Work on one shard until its result is in the store, in the flow run of the caller.

    A result in which questions were dropped for refusals that are due is discarded first.
    """
    store = resources.store
    result = read_shard_result(store, plan.plan_id, index)
    if result is not None:
        if not has_due_drop(result, _answers(store, result), store, resources.ledger, resources.refusals):
            count_finished(resources, plan, result)
            progress.advance(plan.product.stage, plan.shards[index].questions)
            return result
        progress.say(f"shard {index} runs again: questions of it were dropped for refusals that are tried again now")
        discard_shard_result(store, plan.plan_id, index)
        forget_spending(resources, result)
    questions = plan.shards[index].questions
    try:
        with (
            resources.shards_in_memory,
            span("shard", plan=plan.plan_id, recipe=resources.recipe.name, shard=index, questions=questions) as own,
            resources.activity.working_on(index, str(flow_run.id or "")),
        ):
            forget_failure(store, plan.plan_id, index)
            examples, contexts = load_shard(store, plan, index)
            count_earlier_spending(resources, plan)
            reruns = read_reruns(store, plan.plan_id, index)
            in_memory = ShardInMemory(resources, plan, index, examples, contexts, run_in_prefect, reruns)
            result = WORK[plan.makes](in_memory)
            own.set(made=result.pairs, drops=sum(result.drops.values()))
            if result.drops:
                resources.activity.note_drops(index, list(load_rows(store, "drops", result.files["drops"])))
            check_shard(store, plan, result, resources.recipe.execution)
            if plan.product == PAIRS:  # questions are compared with those of other shards before they are rows
                write_shard_part(plan, result, resources.recipe, store, examples, contexts)
    except LongmillError as error:
        if resources.stopped is not None:  # nothing has failed: the shard waits for the next build
            raise resources.stopped from error
        with contextlib.suppress(StoreError):  # a store that is away is the error already
            write_failure(store, plan.plan_id, index, error)
        raise
    write_shard_result(store, result)
    return result


def _answers(store: Store, result: ShardResult) -> Iterator[Answer]:
    """The answers of a finished shard, which are read when they are needed."""
    yield from load_rows(store, "answers", result.files["answers"])


def sample_score_pair(shard: ShardInMemory) -> ShardResult:
    """Sample and score a shard span by span, then pair it; what it takes over from an earlier run is not made again."""
    recipe = shard.resources.recipe
    if (judgements := earlier_judgements(shard)) is not None:
        answers = sample_span(shard, (0, len(shard.examples)))
        shard.resources.count_scored(len(shard.examples), PAIRS.stage)
        return _paired(shard, answers, judgements)
    scorers = parse_scorers(recipe)
    stopped = threading.Event()
    with (
        _task_threads(shard, stopped) as submit_step,
        _task_threads(shard, stopped) as submit_scoring,
    ):

        def score_span(span: Span, answers: list[Answer]) -> list[Judgement]:
            questions = answered_questions(shard, span, answers)
            steps = TaskSteps(shard.step_place(span), submit_step)
            judgements = score_by_recipe(questions, scorers, shard.resources.scoring(), steps)
            judgements = with_words(judgements, refusal_words(answers, shard.resources.ledger))
            shard.resources.count_scored(span[1] - span[0], PAIRS.stage)
            return judgements

        with _task_threads(shard, stopped) as submit_sampling:

            def sample_then_score(span: Span) -> tuple[list[Answer], Future[list[Judgement]]]:
                if stops_by_reward(recipe) and "answers" not in shard.reruns.tables:
                    steps = TaskSteps(shard.step_place(span), submit_step)
                    answers, judgements = sample_by_reward(shard, span, steps)
                    return answers, submit_scoring(_scored, shard, span, judgements)
                answers = sample_span(shard, span)
                return answers, submit_scoring(score_span, span, answers)

            sampled = [submit_sampling(sample_then_score, span) for span in spans_of(shard, calls_per_example(recipe))]
            answers = []
            scored: list[Future[list[Judgement]]] = []
            for future in sampled:
                of_span, judgements_of_span = future.result()
                answers.extend(of_span)
                scored.append(judgements_of_span)
        judgements = []
        for future_judgements in scored:
            judgements.extend(future_judgements.result())
    return _paired(shard, answers, judgements)


def _scored(shard: ShardInMemory, span: Span, judgements: list[Judgement]) -> list[Judgement]:
    """The judgements of a span whose answers were scored while they were drawn."""
    shard.resources.count_scored(span[1] - span[0], PAIRS.stage)
    return judgements


def _paired(shard: ShardInMemory, answers: list[Answer], judgements: list[Judgement]) -> ShardResult:
    tables = pair_shard(shard, answers, judgements)
    return ShardResult.of(shard.resources.store, shard.plan.plan_id, shard.index, len(shard.examples), tables)


def ask_and_check(shard: ShardInMemory) -> ShardResult:
    """Write the questions of a shard and check them, span by span."""
    stopped = threading.Event()
    with (
        _task_threads(shard, stopped) as submit_step,
        _task_threads(shard, stopped) as submit_asking,
    ):

        def ask_span(span: Span) -> list[Candidate]:
            examples = shard.examples[span[0] : span[1]]
            steps = TaskSteps(shard.step_place(span), submit_step)
            candidates = ask_questions(examples, shard.contexts, shard.resources.scoring(), steps)
            shard.resources.count_scored(len(candidates), QUESTIONS.stage)
            return candidates

        spans = spans_of(shard, calls_per_question(shard.resources.recipe))
        candidates: list[Candidate] = []
        for future in [submit_asking(ask_span, span) for span in spans]:
            candidates.extend(future.result())
    tables = {}
    for name, rows in tables_of(candidates, shard.resources).items():
        tables[name] = put_table(shard, name, rows)
    return ShardResult.of(shard.resources.store, shard.plan.plan_id, shard.index, len(shard.examples), tables)


WORK = {PAIRS.name: sample_score_pair, QUESTIONS.name: ask_and_check}  # of a shard, by what it makes


def spans_of(shard: ShardInMemory, calls: int) -> list[Span]:
    """The spans in which a shard is worked on, by the calls of an example; one where calls go out as batches, which are
    to be large."""
    recipe = shard.resources.recipe
    if recipe.sends_batches():
        return [(0, len(shard.examples))]
    planned_calls = calls * shard.plan.planned_questions
    span_calls = calls_per_span(planned_calls, recipe.execution, recipe.policy.replicas())
    return cut_spans(len(shard.examples), calls, span_calls)


def calls_per_span(planned_calls: int, execution: Execution, replicas: int = 1) -> int:
    """Sampling calls of a span, in a plan of so many: batch_calls, or fewer in a small plan.

    There, the policy would have nothing left to do while the last span is scored; but the spans of a shard together
    are enough to keep all calls in flight.
    """
    share = math.ceil(planned_calls / FEWEST_SPANS)
    busy = math.ceil(2 * execution.concurrency * replicas / TASKS_AT_ONCE)
    return min(execution.batch_calls, max(share, busy))


def _task_threads(shard: ShardInMemory, stopped: threading.Event) -> contextlib.AbstractContextManager[Submit]:
    return task_threads(shard.resources, f"shard {shard.index}", stopped)


def shard_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as flow parameters: JSON values alone, which the Prefect UI shows."""
    return recipe.model_dump(mode="json")

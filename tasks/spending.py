"""What a plan has cost before this run: counted into the budget and into the reused calls.

A budget limits the plan and not the process: a re-run, or another worker, does not start from nothing. Answers whose
server has sent no usage are counted from their prompts and their replies in the ledger (infra/models/usage.py).
"""

from collections.abc import Iterable, Iterator

from infra.ledger import Entry
from infra.models.protocol import Request
from infra.recipe import Budget
from tasks.records.example import Answer
from tasks.records.plan import Plan, load_shard
from tasks.records.shard import read_shard_result
from tasks.resources import RunResources
from tasks.sampling import kind_of, sample_requests, strong_requests

_SPENDING_COLUMNS = ["sample_index", "key", "prompt_tokens", "completion_tokens"]
_PAID = 200  # status of a reply that was paid for


def count_earlier_spending(resources: RunResources, plan: Plan) -> None:
    """Count what a plan has already cost, whoever paid for it, where there is a budget. Once per run and plan.

    That is the answers of finished shards and, for the other shards, the samples that the ledger holds. What other
    processes pay for later is not counted, nor are calls to the judge before they are needed again.
    """
    if resources.recipe.budget == Budget():
        return
    with resources.counting_earlier_spending:  # the other shards of the run wait until it is counted
        if plan.plan_id in resources.plans_counted:
            return
        resources.plans_counted.add(plan.plan_id)
        for shard in plan.shards:
            result = read_shard_result(resources.store, plan.plan_id, shard.index)
            keys: set[str] | None = None  # of the answers to count from the ledger; None: all
            if result is not None:
                keys = set()
                table = resources.store.read_table(result.files["answers"].path, _SPENDING_COLUMNS)
                for sample_index, key, *counts in zip(*table.to_pydict().values(), strict=True):
                    if key and all(counts):
                        resources.client_of_answer(sample_index).spend(key, *counts)
                    elif key:
                        keys.add(key)
            for request, entry in _paid_answers(resources, plan, shard.index, keys):
                resources.client_of_answer(request.sample_index).spend_entry(request.prompt, entry)


def count_reused_answers(resources: RunResources, plan: Plan, index: int, answers: Iterable[Answer]) -> None:
    """Count the calls of a shard's answers that needed no call now: they are reused, and part of the budget."""
    without_usage: set[str] = set()
    for answer in answers:
        if answer.key and answer.prompt_tokens and answer.completion_tokens:
            client = resources.client_of_answer(answer.sample_index)
            client.count_reused(kind_of(answer), answer.key, answer.prompt_tokens, answer.completion_tokens)
        elif answer.key:
            without_usage.add(answer.key)
    for request, entry in _paid_answers(resources, plan, index, without_usage):
        resources.client_of_answer(request.sample_index).count_entry(request.prompt, entry)


def _paid_answers(
    resources: RunResources, plan: Plan, index: int, keys: set[str] | None
) -> Iterator[tuple[Request, Entry]]:
    """The requests for answers of a shard that the ledger has replies to, all or those with these keys."""
    if keys is not None and not keys:
        return
    examples, contexts = load_shard(resources.store, plan, index)
    for example in examples:
        context = contexts[example.context_id]
        requests: dict[str, Request] = {}
        for request in (
            *sample_requests(example, context, resources.recipe, plan.special_tokens),
            *strong_requests(example, context, resources.recipe, plan.special_tokens),
        ):
            if keys is None or request.key in keys:
                requests[request.key] = request
        for entry in resources.ledger.lookup(list(requests)).values():
            if entry.status == _PAID:
                yield requests[entry.key], entry

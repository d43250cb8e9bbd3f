"""What a plan has cost before this run: counted into the budget and into the reused calls.

A budget limits the plan and not the process: a re-run, or another worker, does not start from nothing.
"""

from collections.abc import Iterable

from infra.recipe import Budget
from tasks.records.example import Answer
from tasks.records.plan import Plan, load_shard
from tasks.records.shard import read_shard_result
from tasks.resources import RunResources
from tasks.sampling import kind_of, sample_requests, strong_requests

_SPENDING_COLUMNS = ["sample_index", "key", "prompt_tokens", "completion_tokens"]


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
            if result is None:
                _spend_from_ledger(resources, plan, shard.index)
                continue
            table = resources.store.read_table(result.files["answers"].path, _SPENDING_COLUMNS)
            for sample_index, key, prompt_tokens, completion_tokens in zip(*table.to_pydict().values(), strict=True):
                if key and prompt_tokens:
                    client = resources.client_of_answer(sample_index)
                    client.spend(key, prompt_tokens, completion_tokens)


def count_reused_answers(resources: RunResources, answers: Iterable[Answer]) -> None:
    """Count the calls of answers that needed no call now: they are reused, and part of the budget."""
    for answer in answers:
        if answer.key and answer.prompt_tokens:
            client = resources.client_of_answer(answer.sample_index)
            client.count_reused(kind_of(answer), answer.key, answer.prompt_tokens, answer.completion_tokens)


def _spend_from_ledger(resources: RunResources, plan: Plan, index: int) -> None:
    """Count the samples of a shard that the ledger holds."""
    examples, contexts = load_shard(resources.store, plan, index)
    for example in examples:
        context = contexts[example.context_id]
        clients = {}
        for request in (
            *sample_requests(example, context, resources.recipe, plan.special_tokens),
            *strong_requests(example, context, resources.recipe, plan.special_tokens),
        ):
            clients[request.key] = resources.client_of_answer(request.sample_index)
        for entry in resources.ledger.lookup(list(clients)).values():
            clients[entry.key].spend(entry.key, entry.prompt_tokens, entry.completion_tokens)

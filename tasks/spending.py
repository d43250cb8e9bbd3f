"""What a plan has cost before this run: counted into the budget and into the reused calls.

A budget limits the plan and not the process: a re-run, or another worker, does not start from nothing. A finished shard
has its sums in its part, so its answers are not read again. A build whose shards run elsewhere counts once and keeps
the sums by shard; each shard's run is given the sum of the others, whatever their number. Answers whose server has sent
no usage are counted from their prompts and their replies in the ledger (infra/models/usage.py).

Counted are the answers of finished shards and, of the others, the samples that the ledger holds. What other processes
pay for later is not, nor are calls to the judge before they are needed again. A shard that asks questions has all of
its calls among its answers; those of one that is not finished are counted when they are needed again.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence

from infra.ledger import Entry
from infra.models.client import ModelClient
from infra.models.protocol import Request
from infra.recipe import Budget
from tasks.asking.work import CALLS as ASKING_CALLS
from tasks.asking.work import section_of
from tasks.records import example as records
from tasks.records.example import Answer
from tasks.records.part import Spending, read_parts
from tasks.records.plan import Plan, load_shard
from tasks.records.product import QUESTIONS
from tasks.records.shard import ShardResult, read_shard_results
from tasks.resources import RunResources
from tasks.sampling import ANSWERS, kind_of, recorded_calls, strong_requests
from tasks.shard_part import AnswerSpending, spending_of

_PAID = 200  # status of a reply that was paid for

Sums = dict[str, list[int]]  # calls, prompt tokens and completion tokens by kind of answer


class PlanSpending:
    """What the shards of a plan have cost, for a build whose shards run elsewhere. Thread-safe."""

    def __init__(self, resources: RunResources, plan: Plan) -> None:
        self._resources = resources
        self._plan = plan
        self._lock = threading.Lock()
        self._by_shard: dict[int, Mapping[str, Spending]] | None = None  # before it is first needed
        self._total: dict[str, Spending] = {}

    def besides(self, indices: Sequence[int]) -> Sums | None:
        """What the plan has cost without these shards, for the run that works on them (`count_given_spending`).

        None where there is no budget.
        """
        if self._resources.recipe.budget == Budget():
            return None
        with self._lock:
            if self._by_shard is None:
                self._by_shard = {}
                self._update([shard.index for shard in self._plan.shards])
            others = dict(self._total)
            for index in indices:
                for kind, spent in self._by_shard.get(index, {}).items():
                    others[kind] = others[kind].minus(spent)
            return {kind: spent.to_json() for kind, spent in others.items()}

    def count(self, indices: Sequence[int]) -> None:
        """Count anew what shards have cost, because their run has ended."""
        with self._lock:
            if self._by_shard is not None:
                self._update(indices)

    def _update(self, indices: Sequence[int]) -> None:
        assert self._by_shard is not None
        finished = _spending_of_finished(self._resources, self._plan, indices)
        for index in indices:
            spent = dict(finished[index].by_kind) if index in finished else {}
            for request, entry in _unsummed(self._resources, self._plan, index, finished):
                usage = _client(self._resources, request.kind).usage_of(request.prompt, entry)
                call = Spending(1, usage.prompt_tokens, usage.completion_tokens)
                spent[request.kind] = spent.get(request.kind, Spending()).plus(call)
            for kind, earlier in self._by_shard.get(index, {}).items():
                self._total[kind] = self._total[kind].minus(earlier)
            for kind, now in spent.items():
                self._total[kind] = self._total.get(kind, Spending()).plus(now)
            self._by_shard[index] = spent


def count_given_spending(resources: RunResources, plan: Plan, sums: Mapping[str, Sequence[int]]) -> None:
    """Count what the plan's other shards have cost, as the build says (`PlanSpending.besides`)."""
    with resources.counting_earlier_spending:
        resources.plans_counted.add(plan.plan_id)
    _spend_sums(resources, f"{plan.plan_id} elsewhere", {kind: Spending(*sum_of) for kind, sum_of in sums.items()})


def count_earlier_spending(resources: RunResources, plan: Plan) -> None:
    """Count what a plan has already cost, whoever paid for it, where there is a budget. Once per run and plan."""
    if resources.recipe.budget == Budget():
        return
    with resources.counting_earlier_spending:  # the other shards of the run wait until it is counted
        if plan.plan_id in resources.plans_counted:
            return
        resources.plans_counted.add(plan.plan_id)
        indices = [shard.index for shard in plan.shards]
        finished = _spending_of_finished(resources, plan, indices)
        for index in indices:
            if index in finished:
                _spend_sums(resources, f"{plan.plan_id}/{index}", finished[index].by_kind)
            for request, entry in _unsummed(resources, plan, index, finished):  # this run may need them again
                _client(resources, request.kind).spend_entry(request.prompt, entry)


def count_finished(resources: RunResources, plan: Plan, result: ShardResult) -> None:
    """Count the calls of a finished shard's answers: they are reused, and part of the budget."""
    finished = _spending_of_results(resources, [result])
    by_kind = finished[result.shard].by_kind
    for kind, spent in by_kind.items():
        tokens = spent.prompt_tokens, spent.completion_tokens
        _client(resources, kind).count_reused_sum(kind, spent.calls, *tokens)
    _spend_sums(resources, f"{result.plan_id}/{result.shard}", by_kind)
    for request, entry in _unsummed(resources, plan, result.shard, finished):
        _client(resources, request.kind).count_entry(request.prompt, entry)


def forget_spending(resources: RunResources, result: ShardResult) -> None:
    """Take the sums of a finished shard back, because it runs again: its calls are counted when it needs them."""
    for kind in ASKING_CALLS if result.product == QUESTIONS else ANSWERS:
        _client(resources, kind).forget_sum(f"{result.plan_id}/{result.shard} {kind}")


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
        _client(resources, request.kind).count_entry(request.prompt, entry)


def _spending_of_finished(resources: RunResources, plan: Plan, indices: Sequence[int]) -> dict[int, AnswerSpending]:
    """What each of these shards has cost that is finished."""
    results = [result for result in read_shard_results(resources.store, plan.plan_id, indices) if result is not None]
    return _spending_of_results(resources, results)


def _spending_of_results(resources: RunResources, results: Sequence[ShardResult]) -> dict[int, AnswerSpending]:
    """What each of these shards has cost: from its part, or from its answers where it has none."""
    spending: dict[int, AnswerSpending] = {}
    for result, part in zip(results, read_parts(resources.store, results), strict=True):
        if part is None:
            answers = records.from_table(result.files["answers"].read_checked(resources.store), Answer)
            spending[result.shard] = spending_of(answers, result.product)
        else:
            spending[result.shard] = AnswerSpending(part.spending, part.without_usage)
    return spending


def _unsummed(
    resources: RunResources, plan: Plan, index: int, finished: Mapping[int, AnswerSpending]
) -> Iterator[tuple[Request, Entry]]:
    """The paid calls of a shard that no sum holds: those without usage, and all of a shard that is not finished."""
    keys = set(finished[index].without_usage) if index in finished else None
    return _paid_answers(resources, plan, index, keys)


def _paid_answers(
    resources: RunResources, plan: Plan, index: int, keys: set[str] | None
) -> Iterator[tuple[Request, Entry]]:
    """The requests for answers of a shard that the ledger has replies to, all or those with these keys."""
    if plan.product == QUESTIONS or (keys is not None and not keys):  # what asking calls next depends on its replies
        return
    resources.ledger.refresh(when_due=True)
    if not resources.ledger.entries:
        return  # the shard's contexts need not be read
    examples, contexts = load_shard(resources.store, plan, index)
    for example in examples:
        context = contexts[example.context_id]
        recipe, ledger = resources.recipe, resources.ledger
        recorded = recorded_calls([example], contexts, recipe, ledger, plan.special_tokens).calls
        strong = {request.key: request for request in strong_requests(example, context, recipe, plan.special_tokens)}
        recorded += [(strong[entry.key], entry) for entry in ledger.lookup(list(strong)).values()]
        for request, entry in recorded:
            if entry is not None and entry.status == _PAID and (keys is None or request.key in keys):
                yield request, entry


def _spend_sums(resources: RunResources, name: str, by_kind: Mapping[str, Spending]) -> None:
    for kind, spent in by_kind.items():
        tokens = spent.prompt_tokens, spent.completion_tokens
        _client(resources, kind).spend_sum(f"{name} {kind}", spent.calls, *tokens)


def _client(resources: RunResources, kind: str) -> ModelClient:
    """The client whose model calls of this kind go to."""
    if kind in ASKING_CALLS:
        client = resources.clients().get(section_of(kind, resources.recipe))
        return client or resources.policy
    return resources.strong if kind == "strong" and resources.strong is not None else resources.policy

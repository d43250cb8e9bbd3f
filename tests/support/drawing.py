"""A policy in memory that answers at once, and the answers that a plan's samples get from it."""

from collections.abc import Callable, Sequence
from typing import Any

from infra.models.protocol import Outcome, Reply, Request
from infra.recipe import Recipe
from infra.store import Store
from tasks.records.example import Answer, Context, Example
from tasks.records.plan import Plan, load_shard
from tasks.sampling import draw_answers

Say = Callable[[Request], str]


class InMemoryPolicy:
    """Says `say(request)`; `rounds` has the requests of each call of `complete`."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.rounds: list[list[Request]] = []

    def complete(self, requests: Sequence[Request]) -> list[Outcome]:
        self.rounds.append(list(requests))
        return [Reply(request.key, self.say(request), "stop", 10, 5, False, "{}") for request in requests]


def drawn(
    store: Store, plan: Plan, recipe: Recipe, policy: Any
) -> tuple[list[Example], dict[str, Context], list[Answer]]:
    """The first shard's examples and contexts, and all their answers."""
    examples, contexts = load_shard(store, plan, 0)
    return examples, contexts, draw_answers(examples, contexts, recipe, policy, None, plan.special_tokens)

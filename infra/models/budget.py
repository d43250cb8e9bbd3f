"""The budget's meter: what a plan has cost so far, and whether another call may be sent.

One meter serves all clients of a run. Replies that come from the ledger count as spent, each key once, so a
budget limits the plan and not the process: after a crash the same budget stops at the same cost. The limit on
`calls` is exact, since a call is reserved before it is sent. The tokens and the money of a call are not known before
its reply, so the calls in flight may exceed those limits; the calls of a batch, of which there are thousands, reserve
what they are expected to cost. What it leaves out: estimates, which the plan makes.
"""

import threading
from dataclasses import dataclass

from infra.errors import BudgetReached
from infra.recipe import Budget, Price


@dataclass(frozen=True, slots=True)
class Spent:
    """Cost so far: calls, prompt + completion tokens, money in the prices' currency."""

    calls: int
    tokens: int
    money: float


@dataclass(frozen=True, slots=True)
class Expected:
    """What a call of a batch is expected to cost, at most about."""

    tokens: int
    money: float


NOTHING = Expected(0, 0.0)


class BudgetMeter:
    """Counts what is spent against a recipe's budget. Thread-safe."""

    def __init__(self, limits: Budget) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._keys: set[int] = set()  # the first 8 bytes of each key: enough to tell them apart, a third of the memory
        self._reserved = 0
        self._reserved_tokens = 0  # of batches alone, as expected
        self._reserved_money = 0.0
        self._tokens = 0
        self._money = 0.0

    def reserve(self) -> bool:
        """Reserve one call; False when the budget allows no further call."""
        with self._lock:
            if self._reached() is not None:
                return False
            self._reserved += 1
            return True

    def reserve_expected(self, expected: Expected) -> bool:
        """Reserve a call of a batch with its expected cost, since thousands are sent at once; False when none fits."""
        with self._lock:
            if self._reached(self._reserved_tokens, self._reserved_money) is not None:
                return False
            self._reserved += 1
            self._reserved_tokens += expected.tokens
            self._reserved_money += expected.money
            return True

    def reserves(self) -> bool:
        """Whether calls are in flight whose cost may turn out lower than was reserved."""
        with self._lock:
            return self._reserved > 0

    def release(self, expected: Expected = NOTHING) -> None:
        """Undo a reservation: the call ended without a reply, so it costs nothing."""
        with self._lock:
            self._release(expected)

    def settle(
        self, key: str, prompt_tokens: int, completion_tokens: int, price: Price, expected: Expected = NOTHING
    ) -> None:
        """Count a reserved call as spent."""
        with self._lock:
            self._release(expected)
            self._spend(key, prompt_tokens, completion_tokens, price)

    def spend(self, key: str, prompt_tokens: int, completion_tokens: int, price: Price) -> None:
        """Count a reply that was paid for earlier. The same key counts once."""
        with self._lock:
            self._spend(key, prompt_tokens, completion_tokens, price)

    def spent(self) -> Spent:
        """The cost so far."""
        with self._lock:
            return Spent(len(self._keys), self._tokens, self._money)

    def error(self) -> BudgetReached:
        """The error to raise: which limit is reached, what is spent, what to do."""
        with self._lock:
            name = self._reached() or "calls"
            spent = f"{len(self._keys)} calls, {self._tokens} tokens, {self._money:.2f} in money"
        limit = getattr(self.limits, name)
        return BudgetReached(
            f"budget.{name} = {limit} is reached; spent so far: {spent}. Every reply is in the ledger: "
            f"raise budget.{name} and run again to go on from here."
        )

    def _release(self, expected: Expected) -> None:
        self._reserved -= 1
        self._reserved_tokens -= expected.tokens
        self._reserved_money -= expected.money

    def _spend(self, key: str, prompt_tokens: int, completion_tokens: int, price: Price) -> None:
        short = int(key[:16], 16)
        if short in self._keys:
            return
        self._keys.add(short)
        self._tokens += prompt_tokens + completion_tokens
        self._money += call_cost(prompt_tokens, completion_tokens, price)

    def _reached(self, expected_tokens: int = 0, expected_money: float = 0.0) -> str | None:
        """The name of the limit that is reached by what is spent and, in addition, expected."""
        limits = self.limits
        if limits.calls is not None and len(self._keys) + self._reserved >= limits.calls:
            return "calls"
        if limits.tokens is not None and self._tokens + expected_tokens >= limits.tokens:
            return "tokens"
        if limits.money is not None and self._money + expected_money >= limits.money:
            return "money"
        return None


def call_cost(prompt_tokens: float, completion_tokens: float, price: Price) -> float:
    """Money for so many tokens, in the price's currency."""
    return (prompt_tokens * price.input_per_million + completion_tokens * price.output_per_million) / 1e6

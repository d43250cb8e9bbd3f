"""What is expected of a plan: ranges, and calls of one kind."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from infra.models.budget import call_cost
from infra.recipe import Price


@dataclass(frozen=True, slots=True)
class Range:
    """A lower, an expected and a highest value."""

    low: float
    expected: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def times(self, factor: float) -> "Range":
        """Every value times a number."""
        return Range(self.low * factor, self.expected * factor, self.high * factor)

    def part_of(self, whole: float) -> "Range":
        """Every value as a share of a number; of nothing, all of it."""
        return self.times(1 / whole) if whole else Range(1.0, 1.0, 1.0)

    def rounded(self, digits: int | None = None) -> "Range":
        """Every value rounded, to whole numbers without `digits`."""
        return Range(round(self.low, digits), round(self.expected, digits), round(self.high, digits))


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one kind: in all, in the ledger already, still to be made.

    `range`: how many are to be made where a stopping rule may save some; `total` and `to_make` are the most then.
    """

    total: int
    in_ledger: int
    to_make: int
    range: Range | None = None

    @property
    def to_make_range(self) -> Range:
        """The calls that are still to be made, as a range."""
        return self.range or Range(self.to_make, self.to_make, self.to_make)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; "range" where there is one."""
        view: dict[str, Any] = {"total": self.total, "held": self.in_ledger, "to_make": self.to_make}
        return view if self.range is None else {**view, "range": asdict(self.range)}


NOTHING = Range(0.0, 0.0, 0.0)
CHARACTERS = 4  # a token, in English prompts


def thinking_range(most: int) -> Range:
    """Tokens that a judge thinks in one reply, of those that it may."""
    return Range(0, most / 2, most)


def reply_token_range(limit: float, thinking: Range) -> Range:
    """Tokens of a judge's reply of more than a label: its text up to the limit, and what it thinks."""
    return Range(limit / 8, limit / 4, limit) + thinking


def answer_token_range(longest: int, lengths: Counter[int]) -> Range:
    """Tokens of one answer, from the lengths of those that there are."""
    if not lengths:
        return Range(longest / 8, longest / 2, longest)
    ordered = sorted(lengths.elements())
    return Range(ordered[len(ordered) // 10], sum(ordered) / len(ordered), longest)


def cost_range(prompt_tokens: float, reply_tokens: Range, price: Price) -> Range:
    """What a call costs, from the tokens of its prompt and of its reply."""
    return Range(
        call_cost(prompt_tokens, reply_tokens.low, price),
        call_cost(prompt_tokens, reply_tokens.expected, price),
        call_cost(prompt_tokens, reply_tokens.high, price),
    )

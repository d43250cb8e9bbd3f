"""What an estimate is made of: calls, ranges, and the whole as JSON-ready values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one kind: in all, held by the ledger, still to be made."""

    total: int
    held: int
    to_make: int


@dataclass(frozen=True, slots=True)
class Range:
    """A lower, an expected and a highest value."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True, slots=True)
class JudgeEstimate:
    """What judging takes. Calls and tokens of what is still to be made are expectations, and so is their cost."""

    calls: Mapping[str, Calls]  # by kind
    input_tokens: int
    output_tokens: Range
    cost: Range


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is still to be paid for a plan. Token counts cover the answers' calls that are still to be made, `cost`
    those and the judge's."""

    plan_id: str
    questions: int
    examples: int
    most_pairs: int  # that its examples may give
    calls: Mapping[str, Calls]  # by kind
    input_tokens_total: int  # of all calls, made or not
    input_tokens: int
    output_tokens: Range
    cost: Range
    currency: str
    drops: Mapping[str, int]  # by reason
    warnings: tuple[str, ...]
    judge: JudgeEstimate | None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values: plan_id, questions, examples, most_pairs, calls, tokens, cost, judge, drops, warnings."""
        judge = self.judge and {
            "calls": {kind: asdict(calls) for kind, calls in self.judge.calls.items()},
            "tokens": {"input": self.judge.input_tokens, "output": asdict(self.judge.output_tokens)},
            "cost": asdict(self.judge.cost),
        }
        return {
            "plan_id": self.plan_id,
            "questions": self.questions,
            "examples": self.examples,
            "most_pairs": self.most_pairs,
            "calls": {kind: asdict(calls) for kind, calls in self.calls.items()},
            "tokens": {
                "input_total": self.input_tokens_total,
                "input": self.input_tokens,
                "output": asdict(self.output_tokens),
            },
            "judge": judge,
            "cost": {**asdict(self.cost), "currency": self.currency},
            "drops": dict(self.drops),
            "warnings": list(self.warnings),
        }

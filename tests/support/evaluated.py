"""Rows of an evaluation without a model: what comparisons and their reports work on."""

import random
from collections.abc import Sequence

from tasks.evaluation.compare import EvaluationRow
from tasks.records.example import Example

HOSTILE = '<script>alert("x")</script> & {{ 7 * 7 }} ![x](http://example.com/x.png) \u202e\u0007'
KINDS = ("two hops", "列表", "a kind with a name that is much longer than a plot has room for $x$")


def evaluated(
    chance: float, count: int = 96, suite: str = "qa", seed: int = 0, answer: str = ""
) -> list[EvaluationRow]:
    """Rows of `count` questions, right by `chance`; a fifth has no second metric. The same questions for each seed."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        right = float(rng.random() < chance - 0.3 * (number % 4 == 3))
        metrics: dict[str, float | None] = {"sub_em": right, "token_f1": round(0.5 * right + 0.5 * rng.random(), 3)}
        missing = {}
        if number % 5 == 0:
            metrics["token_f1"], missing = None, {"token_f1": "no_reference"}
        rows.append(
            EvaluationRow(
                f"q{number:03}",
                KINDS[number % 3],
                3000 * (1 + number % 7),
                number % 7 == 6,
                answer or f"Answer {'right' if right else 'wrong'} of seed {seed}.",
                "stop",
                True,
                metrics,
                missing,
                suite,
                f"task {number % 2}",
                {"depth": number % 5 / 4, "position": number % 4, "language": "en" if number % 3 else "zh"},
            )
        )
    return rows


def examples_of(rows: Sequence[EvaluationRow]) -> dict[tuple[str, str], Example]:
    """The questions of rows, each over a context of its own."""
    examples = {}
    for row in rows:
        question = f"What is {row.example_id}? {HOSTILE}"
        context_id = f"context of {row.example_id}"
        example = Example(row.example_id, question, context_id, ("Paris", "<b>Rome</b>"), row.kind, "en", "{}")
        examples[row.suite, row.example_id] = example
    return examples

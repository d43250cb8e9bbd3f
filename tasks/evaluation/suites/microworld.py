"""Measures of answers about the generated world, whose sentences can be read: SubEM, item recall, fact precision.

Item recall is the share of the reference items that an answer names; for a question that is no list it is SubEM. Fact
precision is the share of the facts before the final answer that the context states too; a sentence that is none of the
world's states no fact. An answer without a fact has no precision: its value is missing, with the reason `no_facts`.
"""

from tasks.evaluation.suites import Suite
from tasks.metrics import example_sub_em, gold_value
from tasks.microworld.parsing import read_answer, read_facts
from tasks.records.example import Context, Example


def _sub_em(text: str, example: Example, context: Context) -> float | None:
    return example_sub_em(text, example)


def _item_recall(text: str, example: Example, context: Context) -> float | None:
    return gold_value(text, example)


def _fact_precision(text: str, example: Example, context: Context) -> float | None:
    answer_facts = set(read_answer(text).facts)
    context_facts = set(read_facts(context.text))
    return len(answer_facts & context_facts) / len(answer_facts) if answer_facts else None


SUITE = Suite(
    "microworld",
    {"sub_em": _sub_em, "item_recall": _item_recall, "fact_precision": _fact_precision},
    reasons={"fact_precision": "no_facts"},
    about="the generated world: SubEM, recall of items, precision of facts",
)

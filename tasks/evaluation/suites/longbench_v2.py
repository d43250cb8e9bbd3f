"""LongBench v2 (Bai et al., 2024): four options over a long context, and any other multiple choice with a context.

Accuracy over the questions, by domain; difficulty ("easy", "hard") and size ("short", "medium", "long") are groups.
LongBench v2 asks once, with the options as they are: `orders: 1`. How options are shuffled: choice.py.
"""

import json
from collections.abc import Mapping
from dataclasses import replace

from tasks.evaluation.suites import Group, Suite, SuiteQuestion
from tasks.evaluation.suites.choice import ChoiceSettings, SeveralOrders, accuracy, in_orders

_GROUPS = {"difficulty": "difficulty", "length": "size"}  # fields of a row


def _prepare(question: SuiteQuestion, settings: ChoiceSettings, seed: int) -> SuiteQuestion:
    row: Mapping[str, Group] = json.loads(question.example.metadata)
    groups = {group: row[name] for name, group in _GROUPS.items() if isinstance(row.get(name), str)}
    domain = row.get("domain", "")
    return in_orders(replace(question, task=str(domain), groups=groups), settings, seed)


SUITE = Suite(
    "longbench_v2",
    {"accuracy": accuracy},
    reasons={"accuracy": "not_multiple_choice"},
    about="LongBench v2 and any multiple choice with a context: accuracy over shuffled orders of the options",
    settings=SeveralOrders,
    format="longbench_v2",
    prepare=_prepare,
    prompt=lambda example, settings: "evaluate-choice",
    answer_tokens={"": 128},
)

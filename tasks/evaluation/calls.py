"""Which model of the recipe an evaluation's calls went to, by their kind."""

from collections.abc import Mapping
from typing import Any

from infra.recipe import Recipe
from tasks.evaluation.preparing import ANSWER_KINDS
from tasks.evaluation.suites import parse_suites

AFTER = " after"  # ends the kinds of the calls for the second model


def calls_by_section(calls: Mapping[str, Any], recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The counts of an evaluation's calls by section of the recipe, then by kind. The second model's answers have the
    policy's price. Where suites ask both `judge` and `strong`, calls for judgements count as the judge's."""
    roles = [suite.judge_role for suite in parse_suites(recipe) if suite.judge_role]
    judging = "strong" if roles and "judge" not in roles else "judge"
    sections: dict[str, dict[str, Any]] = {}
    for kind, counts in calls.items():
        section = "policy" if kind.removesuffix(AFTER) in ANSWER_KINDS else judging
        sections.setdefault(section, {})[kind] = counts
    return sections

"""Prompt files: both languages have the same ones, and text that is filled in stays data."""

import re

import pytest

from infra.errors import RecipeError
from tasks.prompts import load_prompt, prompt_names

PLACEHOLDER = re.compile(r"\{[a-z_]+\}")
STRATEGIES = ["default", "direct_answer", "fact_and_reflection", "plain", "plan_and_solve", "step_by_step"]
WITHOUT_PLACEHOLDERS = {"haystack-noise", "turn-begins", "question-summary", "question-passage_count"}


def test_the_strategies_exist_in_both_languages() -> None:
    names = [name for name in prompt_names("en") if name.startswith("sample-")]
    assert names == [f"sample-{strategy}" for strategy in STRATEGIES]
    assert prompt_names("en") == prompt_names("zh")


@pytest.mark.parametrize("name", prompt_names("en"))
def test_both_languages_use_the_same_placeholders(name: str) -> None:
    english = sorted(PLACEHOLDER.findall(load_prompt(name, "en").text))
    chinese = sorted(PLACEHOLDER.findall(load_prompt(name, "zh").text))
    assert english == chinese
    assert english or name in WITHOUT_PLACEHOLDERS


def test_a_document_that_holds_a_placeholder_changes_nothing_else() -> None:
    prompt = load_prompt("sample-default", "en")
    rendered = prompt.render(context="see {question} and {context}", question="Who?")
    assert rendered.count("see {question} and {context}") == 1
    assert rendered.count("Who?") == 1


def test_a_placeholder_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        load_prompt("sample-default", "en").render(context="text")


def test_an_unknown_prompt_names_those_that_exist() -> None:
    with pytest.raises(RecipeError, match="sample-plan_and_solve"):
        load_prompt("sample-think_hard", "en")

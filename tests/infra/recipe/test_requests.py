"""What a recipe may say about the requests to a model."""

import json
from typing import Any

import pytest

from infra.canonical import fingerprint
from infra.errors import RecipeError
from infra.recipe import Recipe, parse_recipe

POLICY = {"name": "m", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:1/v1"]}
SETTINGS: dict[str, Any] = {
    "name": "small",
    "questions": {"source": "questions.jsonl"},
    "policy": POLICY,
    "scoring": {"scorers": [{"scorer": "consensus"}]},
    "dataset": {"name": "small", "licence": "cc0-1.0"},
}
SECRET = "sk-geheim-0123456789"


def recipe_with(**policy: Any) -> Recipe:
    return parse_recipe(SETTINGS | {"policy": POLICY | policy})


@pytest.mark.parametrize(
    ("parameters", "remedy"),
    [
        ({"n": 4}, r"sampling\.samples"),
        ({"max_tokens": 9}, r"sampling\.max_tokens"),
        ({"max_completion_tokens": 9}, r"`rename`"),
        ({"temperature": 1}, r"judge\.temperature"),
        ({"seed": 1}, r"omit: \[seed\]"),
        ({"messages": []}, r"`system`"),
        ({"stream": True}, "read whole"),
        ({"api_key": SECRET}, "api_key_env"),
        ({"extra_body": {"top_k": 4}}, "without it"),
        ({"min_p": float("nan")}, "min_p"),
    ],
)
def test_a_field_that_has_a_key_of_its_own_is_refused_with_that_key(parameters: dict[str, Any], remedy: str) -> None:
    with pytest.raises(RecipeError, match=remedy) as caught:
        recipe_with(parameters=parameters)
    assert "policy.parameters" in str(caught.value) and SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rename": {"top_k": "k"}}, "policy.rename: top_k is not sent"),
        ({"rename": {"seed": "messages"}}, "cannot be sent as"),
        ({"rename": {"seed": "random_seed"}, "omit": ["seed"]}, "take one of these"),
        ({"rename": {"seed": "random_seed"}, "parameters": {"random_seed": 1}}, "which `parameters` sets"),
        ({"omit": ["messages"]}, "policy.omit: messages is not sent"),
        ({"headers": {"Content-Type": "TYPE"}}, "cannot be set as a header"),
        ({"system": ""}, "policy.system"),
        ({"requests_per_minute": 0}, "policy.requests_per_minute"),
    ],
)
def test_what_contradicts_itself_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_with(**settings)
    assert words in str(caught.value)


def test_a_secret_in_the_place_of_a_variable_is_refused_and_not_shown() -> None:
    with pytest.raises(RecipeError, match="environment variable") as caught:
        recipe_with(headers={"api-key": SECRET})
    assert SECRET not in str(caught.value) and SECRET not in repr(caught.value.__cause__)
    with pytest.raises(RecipeError, match=r"policy\.headers") as caught:
        recipe_with(headers={"api-key": [SECRET]})
    assert SECRET not in str(caught.value) and SECRET not in str(caught.value.__cause__)


def test_the_field_that_gemini_reads_is_none_of_the_openai_package_s() -> None:
    thinking = {"google": {"thinking_config": {"thinking_budget": 0}}}
    assert recipe_with(parameters={"extra_body": thinking}).policy.parameters == {"extra_body": thinking}


@pytest.mark.parametrize(
    "settings",
    [
        {"rename": {"max_tokens": "max_completion_tokens"}},
        {"omit": ["seed"]},
        {"headers": {"X-Team": "TEAM"}},
        {"organization": "org-1"},
        {"requests_per_minute": 20},
        {"tokens_per_minute": 10_000},
        {"parameters": {}},
    ],
)
def test_how_requests_are_sent_does_not_change_the_plan(settings: dict[str, Any]) -> None:
    assert fingerprint(recipe_with(**settings).identity()) == fingerprint(recipe_with().identity())


@pytest.mark.parametrize(
    "settings", [{"parameters": {"top_k": 20}}, {"system": "Be brief."}, {"omit": ["temperature", "seed"]}]
)
def test_what_decides_the_replies_changes_the_plan(settings: dict[str, Any]) -> None:
    assert recipe_with(**settings).identity() != recipe_with().identity()


def test_a_recipe_survives_the_way_to_a_worker() -> None:
    settings = {"parameters": {"top_k": 20}, "omit": ["seed"], "headers": {"X-Team": "TEAM"}, "system": "Be brief."}
    recipe = recipe_with(**settings)
    assert parse_recipe(json.loads(json.dumps(recipe.model_dump(mode="json")))) == recipe

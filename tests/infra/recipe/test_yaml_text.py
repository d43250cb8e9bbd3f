"""Words that YAML 1.1 takes for booleans."""

import pytest

from flows.recipes import read_recipe
from infra.recipe.yaml_text import read_yaml


@pytest.mark.parametrize("word", ["off", "on", "yes", "no", "Off", "NO", "y"])
def test_words_are_text(word: str) -> None:
    assert read_yaml(f"key: {word}") == {"key": word}


@pytest.mark.parametrize("word, value", [("true", True), ("False", False), ("TRUE", True), ("~", None), ("12", 12)])
def test_booleans_and_others_as_ever(word: str, value: object) -> None:
    assert read_yaml(f"[{word}]") == [value]


def test_a_change_on_the_command_line() -> None:
    training = read_recipe("sealong", ("training.sharing=off",)).training
    assert training is not None and training.sharing == "off"

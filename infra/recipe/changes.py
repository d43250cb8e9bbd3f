"""Changes of a recipe's settings, as `--set` gives them."""

from typing import Any

import yaml

from infra.errors import RecipeError
from infra.recipe.yaml_text import RepeatedKeyError, read_yaml


def apply_change(settings: dict[str, Any], change: str) -> None:
    """Apply one change "a.b=c" in place. The value is YAML: 8 is a number, true a boolean, [a, b] a list.

    The entries of `scoring.scorers` go by their scorer: "scoring.scorers.consensus.over=final".
    """
    path, equals, value = change.partition("=")
    if not equals or not path:
        raise RecipeError(f"--set {change}: write it as key.sub_key=value")
    *parents, last = path.split(".")
    section: Any = settings
    for part in parents:
        if isinstance(section, list):
            section = _scorer_entry(section, part, change)
            continue
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
        is_list_of_scorers = isinstance(section, list) and path.startswith("scoring.scorers.")
        if not isinstance(section, dict) and not is_list_of_scorers:
            raise RecipeError(f"--set {change}: {part} is not a section")
    if not isinstance(section, dict):
        raise RecipeError(f"--set {change}: name the key of the scorer: scoring.scorers.{last}.KEY=value")
    try:
        section[last] = read_yaml(value)
    except RepeatedKeyError as error:
        raise RecipeError(f"--set {change}: {error}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {change}: the value is not valid YAML: {error}") from error


def _scorer_entry(scorers: list[Any], name: str, change: str) -> dict[str, Any]:
    """The entry of `scoring.scorers` for a scorer."""
    names = []
    for entry in scorers:
        if isinstance(entry, dict):
            if entry.get("scorer") == name:
                return entry
            names.append(str(entry.get("scorer")))
    raise RecipeError(f"--set {change}: the recipe has no scorer {name!r}; it has: {', '.join(names)}")

"""The variants of a recipe that are compared: every combination of the values of some keys.

A variation is written KEY=VALUE,VALUE,...; the values are YAML, so a list or a mapping is one value:
`sampling.samples=8,16,32`, `scoring.scorers.consensus.similarity=embedding,rouge_l`,
`'scoring.scorers=[{scorer: consensus}],[{scorer: self_evaluation}]'`.
An ablation is a variation of the scorers: all of them, then all but one, for each that counts for the reward.
"""

import difflib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from flows.cli.recipe_keys import recipe_keys
from flows.recipes import read_recipe
from infra.canonical import canonical_json
from infra.errors import UsageError
from infra.recipe import Recipe
from infra.recipe.yaml_text import RepeatedKeyError, read_yaml
from tasks.scoring import check_scorers, known_scorers

WITHOUT_EFFECT = ("name", "store", "budget", "execution")  # keys that change no dataset and no model
AFTER_BUILDING = ("training", "evaluation")  # keys that change what is made of a dataset
_SCORERS = "scoring.scorers"
_CLOSE, _CLOSENESS, _LISTED = 3, 0.85, 12  # keys that an error names: those with a similar name, or of the section


@dataclass(frozen=True, slots=True)
class Variation:
    """A recipe key and its values, each with a name for the table. `name` is the key's in the table's head."""

    key: str
    name: str
    values: Sequence[Any]
    value_names: Sequence[str]

    def numeric(self) -> bool:
        """True when every value is a number, so that a line can be drawn over them."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the comparison: a value of each variation, their names, and the recipe with these values."""

    values: tuple[Any, ...]
    value_names: tuple[str, ...]
    recipe: Recipe

    @property
    def name(self) -> str:
        """The row's name in messages and progress: "16 · rouge_l"."""
        return " · ".join(self.value_names)


def parse_variation(text: str) -> Variation:
    """A variation from KEY=VALUE,VALUE,... Raises RecipeError for another form or an unknown key."""
    key, equals, values_text = text.partition("=")
    if not equals or not key or not values_text:
        raise UsageError(f"--vary {text}: write it as key.sub_key=VALUE,VALUE,...")
    _check_key(key)
    try:
        values = read_yaml(f"[{values_text}]")
    except (yaml.YAMLError, RepeatedKeyError) as error:
        raise UsageError(
            f"--vary {text}: the values are not valid YAML ({error}); put a text with special characters in quotes"
        ) from error
    names = [_value_name(value) for value in values]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--vary {key}: {name} is there more than once")
    return Variation(key, key.rpartition(".")[2], values, names)


def ablation(recipe: Recipe) -> Variation:
    """The recipe's scorers, and all but one for each with a weight above 0. Raises RecipeError for one alone."""
    entries = list(recipe.scoring.scorers)
    weighted = [entry["scorer"] for entry in entries if entry.get("weight", 1.0) > 0]
    if len(weighted) < 2:
        raise UsageError(
            "--ablate leaves out one scorer at a time, and this recipe's reward has one alone: "
            f"{', '.join(weighted)}; take a recipe with several, such as longreward"
        )
    values: list[Any] = [entries]
    names = ["all scorers"]
    for scorer in weighted:
        values.append([entry for entry in entries if entry["scorer"] != scorer])
        names.append(f"without {scorer}")
    return Variation(_SCORERS, "scorers", values, names)


def make_variants(
    recipe_name: str, changes: Sequence[str], variations: Sequence[Variation], trained: bool
) -> list[Variant]:
    """Every combination of the values, the last variation's values changing first.

    `trained`: whether models are trained on the datasets, so that keys of training count too. Raises RecipeError for
    a value that its key refuses, for variants that would be the same, and when there is one variant alone.
    """
    keys = [variation.key for variation in variations]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"--vary {key}: it is there more than once; give all its values at once")
        _check_effect(key, trained)
    variants = []
    for places in itertools.product(*(range(len(variation.values)) for variation in variations)):
        values, value_names = [], []
        own_changes = list(changes)
        for variation, place in zip(variations, places, strict=True):
            values.append(variation.values[place])
            value_names.append(variation.value_names[place])
            own_changes.append(f"{variation.key}={json.dumps(variation.values[place], default=str)}")
        recipe = read_recipe(recipe_name, own_changes)
        check_scorers(recipe)
        variants.append(Variant(tuple(values), tuple(value_names), recipe))
    if len(variants) < 2:
        raise UsageError("compare: there is nothing to compare; give --vary KEY=VALUE,VALUE or --ablate")
    _refuse_equal(variants, trained)
    return variants


def _check_key(key: str) -> None:
    """Raises RecipeError, naming keys that there are, when the recipe has no such key."""
    documented: dict[str, bool] = {}  # path → whether it is a section, whose keys are documented too
    for path, default, _ in recipe_keys():
        documented[path.replace("[", ".").replace("]", "")] = default == ""
    for scorer in known_scorers():
        documented[f"{_SCORERS}.{scorer}.weight"] = False
    for path, is_section in documented.items():
        below = key.startswith(f"{path}.") and not is_section and path != _SCORERS  # in a mapping of one's own
        if key == path or below:
            return
    section = key.rpartition(".")[0]
    siblings = [path for path in documented if path.rpartition(".")[0] == section]
    keys = [path for path, is_section in documented.items() if not is_section]
    close = difflib.get_close_matches(key, keys, n=_CLOSE, cutoff=_CLOSENESS)
    names = ", ".join(close or siblings[:_LISTED] or list(documented)[:_LISTED])
    raise UsageError(f"--vary {key}: a recipe has no such key; there are: {names}; `longmill keys` lists all")


def _check_effect(key: str, trained: bool) -> None:
    section = key.partition(".")[0]
    if section in WITHOUT_EFFECT:
        raise UsageError(f"--vary {key}: it changes no dataset and no model, so the variants would all be the same")
    if section in AFTER_BUILDING and not trained:
        raise UsageError(f"--vary {key}: it changes no dataset; add --train, which trains and evaluates every variant")


def _refuse_equal(variants: Sequence[Variant], trained: bool) -> None:
    excluded = {*WITHOUT_EFFECT, *(() if trained else AFTER_BUILDING)}
    names: dict[bytes, str] = {}
    for variant in variants:
        settings = canonical_json(variant.recipe.model_dump(mode="json", exclude=excluded))
        if settings in names:
            raise UsageError(f"--vary: {names[settings]} and {variant.name} would be the same dataset; leave one out")
        names[settings] = variant.name


def _value_name(value: Any) -> str:
    """A value as the table names it: scorers by their names and settings, other values as YAML in one line."""
    if isinstance(value, list) and value and all(isinstance(entry, dict) and "scorer" in entry for entry in value):
        return " + ".join(map(_scorer_name, value))
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000).removesuffix("...\n").strip()


def _scorer_name(entry: Mapping[str, Any]) -> str:
    settings = [str(value) for key, value in entry.items() if key not in ("scorer", "weight")]
    name = f"{entry['scorer']}({', '.join(settings)})" if settings else str(entry["scorer"])
    return f"{entry['weight']} × {name}" if "weight" in entry else name

"""Models that are served somewhere, NAME=URL, and the recipe that evaluates them where the user gives none.

NAME is what the server calls the model. The ledger knows a model by its name and revision: other weights under the same
name are another revision, NAME@REVISION=URL, or their answers would be those of the earlier ones.

Its defaults are those for an instruct model of some billion parameters: plain prompts, answers of up to 1,024 tokens,
the window that the server names (vLLM does), else 32,768 tokens.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from infra.errors import LongmillError, PrerequisiteError, RecipeError, UsageError
from infra.models.served_window import read_models, window_in
from infra.models.tokens import load_tokenizer
from infra.recipe import Judge, Recipe, parse_recipe
from tasks.records.hint import default_store

_KEY_VARIABLE = "OPENAI_API_KEY"
_WINDOW = 32768


@dataclass(frozen=True, slots=True)
class Served:
    """A model behind an endpoint."""

    name: str
    url: str
    revision: str = "main"

    def as_trained(self) -> dict[str, Any]:
        """The form in which flows take a model that is compared with the policy."""
        return {
            "name": self.name,
            "revision": self.revision,
            "kind": "endpoint",
            "model": f"{self.name}@{self.revision}={self.url}",
            "endpoint": self.url,
        }


def served_model(text: str) -> Served:
    """The model of "NAME=URL" or "NAME@REVISION=URL". Raises RecipeError for another form."""
    names, equals, url = text.partition("=")
    name, _, revision = names.partition("@")
    if not equals or not name or not url.startswith(("http://", "https://")):
        raise RecipeError(f"{text!r}: write a served model as NAME=URL, as my-model=http://127.0.0.1:8000/v1")
    return Served(name, url.rstrip("/"), revision or "main")


def check_names(models: Sequence[dict[str, Any]], recipe: Recipe) -> None:
    """Raise RecipeError where two models have one name and one revision: the ledger would take them for one."""
    identities = [(recipe.policy.name, recipe.policy.revision)]
    for model in models:
        identity = (model["name"], model["revision"])
        if identity in identities:
            raise UsageError(
                f"--model: two models are called {identity[0]}, revision {identity[1]}, and would share their answers; "
                "write NAME@REVISION=URL for other weights under the same name"
            )
        identities.append(identity)


def check_second_model(recipe: Recipe, models: Sequence[dict[str, Any]]) -> None:
    """Raise UsageError where a suite compares two models' answers and there is one model."""
    from tasks.evaluation.suites import parse_suites

    if models:
        return
    for suite in parse_suites(recipe):
        if suite.suite.compares:
            raise UsageError(
                f"the suite {suite.label} compares the answers of two models, and there is one: give --model for the "
                "other, or leave the suite out"
            )


def evaluation_recipe(
    models: Sequence[Served], judge: str, tokenizer: str, window: int, store: str, changes: Sequence[str]
) -> Recipe:
    """A recipe whose policy is the first of the models.

    Raises RecipeError without one, PrerequisiteError for a tokenizer that is not at hand.
    """
    if not models:
        raise UsageError("evaluate: give a recipe, or a served model: --model NAME=URL --suite NAME")
    first = models[0]
    listing = _listing(first)
    settings: dict[str, Any] = {
        "name": "evaluation",
        "store": store or default_store(),
        "questions": {"source": "none"},  # nothing is built of it; a suite names its own
        "policy": {
            "name": first.name,
            "revision": first.revision,
            "endpoints": [first.url],
            "tokenizer": tokenizer or _tokenizer_of(first, listing),
            "context_window": window or window_in(listing, first.name) or _WINDOW,
        },
        "sampling": {"strategy": "plain"},
        "scoring": {"scorers": [{"scorer": "consensus"}]},
        "dataset": {"name": "evaluation", "licence": "other"},
        "training": None,
        "evaluation": {"max_tokens": 1024},
    }
    if judge:
        settings["judge"] = _judge_settings(judge, settings["policy"]["tokenizer"])
    return parse_recipe(settings, "evaluate", tuple(changes))


def with_judge(recipe: Recipe, judge: str) -> Recipe:
    """The recipe with another judge; how it is asked stays as the recipe says."""
    changes = _judge_settings(judge, recipe.policy.tokenizer)
    earlier = recipe.judge.model_dump(exclude={"serve", "rule_based"}) if recipe.judge else {}
    return recipe.model_copy(update={"judge": Judge.model_validate(earlier | changes)})


def with_suites(recipe: Recipe, suites: Sequence[str]) -> Recipe:
    """The recipe with these suites in place of its own: "NAME", "NAME=FILE" or YAML "{name: NAME, ...}"."""
    if not suites or recipe.evaluation is None:
        return recipe
    entries = tuple(_suite_entry(text) for text in suites)
    return recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"suites": entries})})


def _suite_entry(text: str) -> str | dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            entry = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--suite {text}: not valid YAML: {error}") from error
        return dict(entry)
    name, equals, source = text.partition("=")
    return {"name": name, "questions": {"source": source}} if equals else name


def _judge_settings(judge: str, tokenizer: str) -> dict[str, Any]:
    served = served_model(judge)
    return {
        "name": served.name,
        "revision": served.revision,
        "endpoints": [served.url],
        "tokenizer": tokenizer,
    }


def _listing(model: Served) -> bytes:
    """The server's list of models; empty where it has none."""
    try:
        return read_models(model.url, os.environ.get(_KEY_VARIABLE))
    except (OSError, ValueError):
        return b"{}"


def _tokenizer_of(model: Served, listing: bytes) -> str:
    """The tokenizer that the server names: vLLM's list says which folder or hub name it serves as `root`."""
    root = ""
    try:
        for entry in json.loads(listing).get("data", ()):
            if entry.get("id") == model.name:
                root = str(entry.get("root") or entry["id"])
        load_tokenizer(root or model.name)
    except (ValueError, AttributeError, KeyError, TypeError, LongmillError) as error:
        raise PrerequisiteError(
            f"{model.name}: its tokenizer is not at hand ({error}); give --tokenizer, a folder or a name on the hub"
        ) from error
    return root or model.name

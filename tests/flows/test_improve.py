"""Rounds: the next round's policy, and what stays the same from round to round."""

from pathlib import Path
from typing import Any

import pytest

from flows import evaluate
from flows import improve as module
from infra.errors import RecipeError
from infra.recipe import Recipe
from tests.support.planning import small_recipe

ADAPTER = {"model": "models/small/abc", "name": "small-abc", "revision": "abc", "kind": "adapter"}


def recipe_for(folder: Path, **sections: Any) -> Recipe:
    policy = {"endpoints": [], "serve": {"model_path": "microworld", "python": "/usr/bin/python3"}}
    return small_recipe(folder, policy=policy, training={"base": "another"}, **sections)


def fake_merge(folder: Path, target: Path) -> Path:
    assert folder.is_dir()
    return target


def test_the_next_policy_is_the_merged_model_under_its_own_revision(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "merge_adapter", fake_merge)
    (folder / "mill" / ADAPTER["model"]).mkdir(parents=True)
    recipe = recipe_for(folder)
    following = module.next_policy(recipe, ADAPTER)
    assert following.policy.serve is not None
    assert following.policy.serve.model_path == str(folder / "mill" / "models" / "small" / "abc-merged")
    assert (following.policy.name, following.policy.revision) == ("stub", "abc")
    assert following.policy.endpoints == ()
    assert following.training is not None
    assert following.training.base is None  # the policy itself is trained on


def test_a_full_model_is_served_as_it_is(folder: Path) -> None:
    (folder / "mill" / ADAPTER["model"]).mkdir(parents=True)
    following = module.next_policy(recipe_for(folder), {**ADAPTER, "kind": "full"})
    assert following.policy.serve is not None
    assert following.policy.serve.model_path == str(folder / "mill" / "models" / "small" / "abc")


def test_a_round_builds_the_same_contexts_with_the_same_split(folder: Path) -> None:
    (folder / "mill" / ADAPTER["model"]).mkdir(parents=True)
    recipe = recipe_for(folder)
    following = module.next_policy(recipe, {**ADAPTER, "kind": "full"})
    before, after = recipe.identity(), following.identity()
    assert before["policy"].pop("revision") != after["policy"].pop("revision")
    assert before == after


class RemoteStore:
    """A store that is not on this machine."""

    def local_path(self, path: str) -> None:
        assert path == ADAPTER["model"]

    def download_folder(self, prefix: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(prefix)


def test_a_model_in_a_remote_store_is_fetched_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "open_store", lambda url: RemoteStore())
    recipe = recipe_for(folder).model_copy(update={"store": "s3://bucket/elsewhere"})
    (folder / "mill" / "work" / ADAPTER["model"]).mkdir(parents=True)  # of a fetch that was stopped
    following = module.next_policy(recipe, {**ADAPTER, "kind": "full"})
    assert following.policy.serve is not None
    assert (Path(following.policy.serve.model_path) / "config.json").read_text() == ADAPTER["model"]


def test_each_round_starts_from_the_model_of_the_one_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[tuple[int, str]] = []

    def run_round(recipe: Recipe, number: int, served: Recipe) -> dict[str, Any]:
        rounds.append((number, recipe.policy.revision))
        revision = f"r{number}"
        (folder / "mill" / "models" / revision).mkdir(parents=True)
        return {"trained": {**ADAPTER, "model": f"models/{revision}", "revision": revision, "kind": "full"}}

    monkeypatch.setattr(module, "run_round", run_round)
    reports = module.run_rounds(recipe_for(folder), 3)
    assert rounds == [(1, "main"), (2, "r1"), (3, "r2")]
    assert [report["trained"]["revision"] for report in reports] == ["r1", "r2", "r3"]


@pytest.mark.parametrize("missing", ["training", "serve"])
def test_rounds_without_training_or_a_server_to_start_are_refused(folder: Path, missing: str) -> None:
    recipe = recipe_for(folder)
    if missing == "serve":
        policy = recipe.policy.model_copy(update={"serve": None, "endpoints": ("http://127.0.0.1:9/v1",)})
        recipe = recipe.model_copy(update={"policy": policy})
    else:
        recipe = recipe.model_copy(update={"training": None})
    with pytest.raises(RecipeError, match=r"policy\.serve and training"):
        module.run_rounds(recipe, 2)

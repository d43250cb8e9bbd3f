"""`longmill train reward` and `longmill train`: which verb is meant, and what the flow hands to the job."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.errors import InputError
from infra.recipe import Recipe
from tests.support.recipes_for_scoring import recipe_with


@pytest.mark.parametrize(
    ("words", "verb"),
    [
        (["mill/datasets/x", "--recipe", "r.yaml"], "policy"),
        (["--data", "pairs.jsonl", "--model", "m"], "policy"),
        (["policy", "x", "--recipe", "r.yaml"], "policy"),
        (["reward", "x", "y", "--recipe", "r.yaml"], "reward"),
    ],
)
def test_the_policy_is_meant_where_no_verb_is_named(words: list[str], verb: str) -> None:
    from flows.cli.app import app

    help_text = CliRunner().invoke(app, ["train", *words, "--help"])
    assert help_text.exit_code == 0
    assert f"train {verb} [OPTIONS]" in help_text.output


def test_the_job_is_that_of_the_recipe(tmp_path: Path) -> None:
    from flows.train_reward import reward_job, train_reward

    def recipe(**training: Any) -> Recipe:
        return recipe_with({"scorer": "consensus"}, store=str(tmp_path / "mill"), seed=7, reward_training=training)

    job = reward_job(recipe(dtype="float32"), ["a/manifest.json"])
    assert (job.base, job.seed, job.manifests) == ("stub", 7, ["a/manifest.json"])
    assert reward_job(recipe(base="other", dtype="auto"), []).base == "other"
    assert reward_job(recipe(dtype="auto"), []).settings.dtype in ("bfloat16", "float32")
    with pytest.raises(InputError, match="nothing is published under this name"):
        train_reward.fn(recipe().model_dump(mode="json"))

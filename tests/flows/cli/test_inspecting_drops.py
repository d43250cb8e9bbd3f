"""`longmill inspect` where there is no pair to inspect: it says so, and what became of the questions."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from infra.store import open_store
from tasks.publishing import publish
from tests.support.published import fake_plan, fake_recipe


def inspected(folder: str, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["inspect", folder, *arguments], env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    return done.output


def published(place: Path, shards: int, early_drops: int) -> str:
    recipe, store = fake_recipe(place), open_store(str(place))
    plan, results = fake_plan(store, recipe, shards=shards, early_drops=early_drops)
    return publish(plan, results, recipe, store).folder


def test_a_dataset_without_pairs_says_so_and_why(tmp_path: Path) -> None:
    folder = published(tmp_path, shards=0, early_drops=3)
    shown = inspected(folder)
    assert shown.startswith("no pairs\n")
    assert "Dropped: 3 questions" in shown
    assert "3  duplicate_id" in shown
    assert "margin" not in shown  # no empty table
    view = json.loads(inspected(folder, "--json"))
    assert (view["pairs"], view["rows"], view["drops"]) == (0, [], {"duplicate_id": 3})


def test_a_dataset_with_pairs_lists_them_alone(tmp_path: Path) -> None:
    folder = published(tmp_path, shards=1, early_drops=1)
    shown = inspected(folder)
    assert "no pairs" not in shown and "Dropped" not in shown and "q00000" in shown
    assert json.loads(inspected(folder, "--json"))["drops"] == {"duplicate_id": 1, "margin_too_small": 1}


def test_a_dataset_of_nothing_has_neither(tmp_path: Path) -> None:
    shown = inspected(published(tmp_path, shards=0, early_drops=0))
    assert "no pairs" in shown and "no dropped questions" in shown


@pytest.mark.parametrize("pair", ["early-0", "early-2"])
def test_the_hint_holds_what_it_says(tmp_path: Path, pair: str) -> None:
    folder = published(tmp_path, shards=0, early_drops=3)
    done = CliRunner().invoke(app, ["inspect", folder, "--pair", pair])
    assert "dropped: duplicate_id (row 9)" in " ".join(f"{done.output} {done.exception}".split())

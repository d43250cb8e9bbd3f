"""`longmill inspect` of a dataset without pairs: it says so, and why the questions were dropped."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from infra.store import open_store
from tasks.publishing import publish
from tests.support.published import fake_plan, fake_recipe


def inspect(folder: str, *arguments: str) -> str:
    ended = CliRunner().invoke(app, ["inspect", folder, *arguments], env={"COLUMNS": "100"})
    assert ended.exit_code == 0, ended.output
    return ended.output


def published(place: Path, shards: int, early_drops: int) -> str:
    recipe, store = fake_recipe(place), open_store(str(place))
    plan, results = fake_plan(store, recipe, shards=shards, early_drops=early_drops)
    return publish(plan, results, recipe, store).folder


def test_a_dataset_without_pairs_says_so_and_why(tmp_path: Path) -> None:
    folder = published(tmp_path, shards=0, early_drops=3)
    printed = inspect(folder)
    assert printed.startswith("no pairs\n")
    assert "Dropped: 3 questions" in printed
    assert "3  duplicate_id" in printed
    assert "margin" not in printed  # no empty table
    view = json.loads(inspect(folder, "--json"))
    assert (view["pairs"], view["rows"], view["drops"]) == (0, [], {"duplicate_id": 3})


@pytest.mark.medium
def test_a_dataset_with_pairs_lists_them_alone(tmp_path: Path) -> None:
    folder = published(tmp_path, shards=1, early_drops=1)
    printed = inspect(folder)
    assert "no pairs" not in printed and "Dropped" not in printed and "q00000" in printed
    assert json.loads(inspect(folder, "--json"))["drops"] == {"duplicate_id": 1, "margin_too_small": 1}


def test_a_dataset_of_nothing_has_neither(tmp_path: Path) -> None:
    printed = inspect(published(tmp_path, shards=0, early_drops=0))
    assert "no pairs" in printed and "no dropped questions" in printed


@pytest.mark.parametrize("pair", ["early-0", "early-2"])
def test_a_dropped_question_is_named_with_its_reason(tmp_path: Path, pair: str) -> None:
    folder = published(tmp_path, shards=0, early_drops=3)
    ended = CliRunner().invoke(app, ["inspect", folder, "--pair", pair])
    assert "dropped: duplicate_id (row 9)" in " ".join(f"{ended.output} {ended.exception}".split())

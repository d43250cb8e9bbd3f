"""The command line as a process: quick help, short errors with exit statuses, JSON that is JSON."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.bench.common import stub_recipe, write_questions
from flows.rerun import parse_ranges
from infra.errors import InputError

pytestmark = pytest.mark.medium


def longmill(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def recipe_file(folder: Path, **sections: dict[str, object]) -> Path:
    recipe = stub_recipe(folder, "http://127.0.0.1:1/v1", **sections)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
    return path


def test_help_loads_no_heavy_library(tmp_path: Path) -> None:
    heavy = ("torch", "prefect", "transformers", "datasets", "trl", "pyarrow", "numpy")
    program = f"import sys, flows.cli; print([name for name in {heavy} if name in sys.modules])"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_a_recipe_that_is_not_there_is_one_short_line_and_status_2(tmp_path: Path) -> None:
    ended = longmill("plan", "nowhere.yaml", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "error: nowhere.yaml: cannot read the recipe (No such file or directory); check the path",
        "see docs/recipes.md",
    ]


def test_a_name_that_is_not_in_the_box_gets_the_list_of_those_that_are(tmp_path: Path) -> None:
    ended = longmill("plan", "seelong", cwd=tmp_path)
    assert ended.returncode == 2
    names = "cascade, demo-longreward, demo-sealong, documents-sealong, longmab, longpo, longreward, real-sealong"
    assert f"no recipe of this name in the box: {names}, sealong" in ended.stderr
    ended = longmill("demo", "seelong", cwd=tmp_path)
    assert ended.returncode == 2
    assert "there is no method 'seelong' on generated text; there are: longreward, sealong" in ended.stderr


@pytest.mark.slow
def test_missing_sections_and_paths_are_named_before_any_server_starts(tmp_path: Path) -> None:
    recipe = str(recipe_file(tmp_path))
    (tmp_path / "store").mkdir()
    for arguments, message in (
        (("train", "store/datasets/x", "--recipe", recipe), "the recipe has no `training` section"),
        (("evaluate", recipe), "the recipe has no `evaluation` section"),
        (("train", "store/datasets/x", "--recipe", recipe, "--set", "training.loss=sft"), "no manifest.json there"),
        (("evaluate", recipe, "--model", "store/models/x", "--set", "evaluation.samples=1"), "no result.json there"),
    ):
        ended = longmill(*arguments, cwd=tmp_path)
        assert ended.returncode == 2
        assert message in ended.stderr
        assert ended.stderr.startswith("error: ")  # no address of a Prefect server before it


def test_debug_adds_the_traceback(tmp_path: Path) -> None:
    ended = longmill("--debug", "plan", "nowhere.yaml", cwd=tmp_path)
    assert ended.returncode == 2
    assert "Traceback" in ended.stderr


def test_a_wrong_option_is_a_usage_error(tmp_path: Path) -> None:
    ended = longmill("plan", "--nonsense", cwd=tmp_path)
    assert ended.returncode == 2
    assert "nonsense" in ended.stderr


def test_rerun_needs_either_failed_or_shards(tmp_path: Path) -> None:
    assert "either --failed or --shards" in longmill("rerun", "abc", cwd=tmp_path).stderr


def test_status_of_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    ended = longmill("status", cwd=tmp_path)
    assert ended.returncode == 2
    assert "longmill plan" in ended.stderr


def test_a_taken_port_is_named_before_work_starts(tmp_path: Path) -> None:
    write_questions(tmp_path / "questions.jsonl", 2, 200)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        serve = {"model_path": "microworld", "port": port, "python": sys.executable}
        ended = longmill("run", str(recipe_file(tmp_path, policy={"endpoints": [], "serve": serve})), cwd=tmp_path)
    assert ended.returncode == 6
    assert f"port {port} on 127.0.0.1 is taken" in ended.stderr
    assert not (tmp_path / "store" / "plans").exists()


@pytest.mark.slow
def test_plan_counts_without_a_call(tmp_path: Path) -> None:
    write_questions(tmp_path / "questions.jsonl", 3, 500)
    ended = longmill("plan", str(recipe_file(tmp_path)), "--json", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    view = json.loads(ended.stdout)
    assert view["questions"] == 3
    assert view["calls"]["sample"] == {"total": 24, "held": 0, "to_make": 24}
    printed = longmill("plan", str(recipe_file(tmp_path)), cwd=tmp_path)
    assert f"plan {view['plan_id']}" in printed.stdout


def test_keys_explains_the_recipe(tmp_path: Path) -> None:
    printed = longmill("keys", cwd=tmp_path).stdout
    assert "sampling.samples" in printed
    assert "answers per question (N)" in printed


@pytest.mark.parametrize(("text", "numbers"), [("3", [3]), ("3,7-9", [3, 7, 8, 9]), (" 2-2 , 1", [1, 2]), ("4,4", [4])])
def test_ranges_of_shards(text: str, numbers: list[int]) -> None:
    assert parse_ranges(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "3-", "9-7", "-1", "1,,2"])
def test_ranges_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--shards"):
        parse_ranges(text)

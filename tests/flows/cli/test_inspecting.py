"""`longmill inspect` and `longmill agreement` as a person runs them: plain text, the same as JSON, no live markup."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.inspecting import plain
from infra.store import open_store
from tests.support.longreward import longreward_recipe, publish_longreward

pytestmark = pytest.mark.slow  # every test starts the command some times


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("mill")
    return publish_longreward(open_store(str(place)), longreward_recipe(place), 6).folder


def longmill(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "COLUMNS": "100"}
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_pair_reads_well_in_a_pipe(folder: str) -> None:
    printed = longmill("inspect", folder, "--pair", "arden-000")
    assert printed.returncode == 0, printed.stderr
    assert max(map(len, printed.stdout.splitlines())) <= 100
    for expected in (
        "pair arden-000 (train), margin 4.12",
        "[bold]It[/bold] was opened in 1913",
        "full    Ilse Brandt was the architect.",
        "[96, 143) Its architect, Ilse Brandt, was born in Lübeck.",
        "also seen: [0, 39)",
        "part 1 of 2 [0, 90): Opened in 1931.",
        "chosen, helpfulness: It reads well. [[9]]",
    ):
        assert expected in printed.stdout
    assert "\x1b" not in printed.stdout


def test_the_list_and_its_json_say_the_same(folder: str) -> None:
    printed = longmill("inspect", folder, "--limit", "2").stdout
    assert "and 4 more of 6" in printed
    view = json.loads(longmill("inspect", folder, "--limit", "2", "--json").stdout)
    assert [row["example_id"] for row in view["rows"]] == ["arden-000", "arden-001"]
    assert all(row["example_id"] in printed for row in view["rows"])


def test_wrong_ids_and_places_are_one_line(folder: str, tmp_path: Path) -> None:
    ended = longmill("inspect", folder, "--pair", "nothing-like-it")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "no pair 'nothing-like-it'; near it: arden-000" in " ".join(ended.stderr.split())
    ended = longmill("inspect", folder, "--number", "2")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "give the question with --pair ID" in " ".join(ended.stderr.split())
    ended = longmill("agreement", str(tmp_path))
    assert ended.returncode == 2
    assert "no dataset there" in " ".join(ended.stderr.split())


def test_agreement_prints_tables_or_json(folder: str) -> None:
    printed = longmill("agreement", folder, "--with", folder).stdout
    assert max(map(len, printed.splitlines())) <= 100
    for expected in ("mean without faithfulness", "what a dimension adds", "both judges", "rank correlation"):
        assert expected in printed
    view = json.loads(longmill("agreement", folder, "--json").stdout)
    assert set(view["agreement"]["leave_one_out"]) == {"helpfulness", "logicality", "completeness", "faithfulness"}


def test_no_character_commands_the_terminal() -> None:
    assert plain("a\x1b[2Jb\rc\u202ed\te\n👨\u200d👩 [red]").plain == "a�[2Jb�c�d\te\n👨\u200d👩 [red]"

"""`longmill microworld make`: a calm table and paths, JSON that is JSON, refusals in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from infra.errors import InputError


def make(out: Path, *options: str) -> str:
    ended = CliRunner().invoke(app, ["microworld", "make", "--out", str(out), *options], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def json_lines(path: Path | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_a_dataset_ends_in_a_table_and_its_path(tmp_path: Path) -> None:
    printed = make(tmp_path / "made", "--questions", "16", "--tokens", "600", "--hops", "3", "--split", "dev")
    assert printed.startswith("microworld, dev")
    assert all(word in printed for word in ("three-hop", "worlds", "tokens a second", "rejected: invented fact"))
    assert f"questions: {tmp_path}/made/questions.jsonl" in printed.replace("\n", "")
    rows = json_lines(tmp_path / "made" / "questions.jsonl")
    assert [row["id"] for row in rows] == [f"micro-dev-7-{index:06d}" for index in range(16)]


def test_the_same_command_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make(tmp_path / name, "--questions", "20", "--tokens", "500", "--json")
    assert (tmp_path / "a" / "questions.jsonl").read_bytes() == (tmp_path / "b" / "questions.jsonl").read_bytes()


def test_a_pool_is_one_world_with_supports_and_all_documents(tmp_path: Path) -> None:
    made = json.loads(make(tmp_path, "--questions", "30", "--tokens", "600", "--hops", "3", "--pool", "--json"))
    assert (made["questions"], made["worlds"], set(made["files"])) == (30, 1, {"questions", "pool"})
    assert "three-hop" in made["kinds"]
    pool = json_lines(made["files"]["pool"])
    for row in json_lines(made["files"]["questions"]):
        assert all(document in pool for document in row["documents"])


def test_what_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ask for 90 people"):
        make(tmp_path, "--tokens", "5000", "--people", "8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_training_ends_in_what_was_measured_its_plot_and_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.microworld import train_judge, train_policy

    def write_log(stage: str, lines: list[dict[str, object]]) -> None:
        (tmp_path / stage).mkdir(parents=True, exist_ok=True)
        (tmp_path / stage / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def policy(*_: object) -> dict[str, dict[str, float]]:
        for stage in train_policy.STAGES:
            write_log(f"policy/{stage.name}", [{"step": 0, "loss": 2.0}])
        return {"plan_and_solve@512": {"greedy": 50.0, "sampled": 40.0, "majority": 60.0, "chance": 9.0}}

    def judge(*_: object) -> dict[str, float]:
        write_log("judge", [{"step": 25, "loss": 2.0, "right": {"facts": 9.0}}])
        return {"facts": 95.0}

    monkeypatch.setattr(train_policy, "train_policy", policy)
    monkeypatch.setattr(train_judge, "train_judge", judge)
    for model, figure in (("policy", "60.0"), ("judge", "95.0")):
        options = ["--work", str(tmp_path / model), "--out", str(tmp_path / "model")]
        ended = CliRunner().invoke(app, ["microworld", "train", model, *options], catch_exceptions=False)
        assert ended.exit_code == 0
        assert figure in ended.stdout
        assert ended.stdout.replace("\n", "").endswith(f"model: {tmp_path}/model")
        assert (tmp_path / model / "training.png").stat().st_size > 1000

"""`longmill train`: what is wrong is said before a server or a model starts, and where the rows went at the end."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from infra.errors import InputError, LongmillError, RecipeError
from tasks.reporting.tables import training_rows
from tasks.training.external import PairSource
from tasks.training.job import TrainingJob, TrainingResult
from tests.flows.cli.test_cli import recipe_file


def _train(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["train", *arguments], catch_exceptions=False)


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.cli.training.prefect_at", None)


@pytest.mark.usefixtures("no_server")
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("--recipe", "demo-sealong"), RecipeError, "give either MANIFEST or --data"),
        (("datasets/x", "--data", "pairs.jsonl"), RecipeError, "give either MANIFEST or --data"),
        (("--data", "pairs.jsonl"), RecipeError, "give --recipe, or, with --data, --model"),
        (("datasets/x", "--model", "microworld"), RecipeError, "give --recipe, or, with --data, --model"),
        (("--data", "pairs.jsonl", "--model", "microworld", "--set", "training.los=dpo"), RecipeError, "no such key"),
        (("--data", "pairs.jsonl", "--model", "microworld"), InputError, r"its first row has answer, question; a row"),
        (("--data", "nowhere.jsonl", "--model", "microworld"), InputError, "no such file or folder"),
    ],
)
def test_wrong_options_and_files_are_named_before_a_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], error: type[LongmillError], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pairs.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    with pytest.raises(error, match=words):
        _train(*arguments)


@pytest.mark.usefixtures("no_server")
def test_a_recipe_without_training_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    recipe = str(recipe_file(tmp_path))
    with pytest.raises(RecipeError, match="no `training` section"):
        _train("--data", str(tmp_path / "pairs.jsonl"), "--recipe", recipe)


def test_the_table_says_where_each_row_went() -> None:
    trained = {"source_rows": 1100, "dropped": {"same_text": 2, "too_long": 98}, "pairs": 1010, "dropped_pairs": 99}
    _, rows = training_rows(trained | {"short_rows": 10, "steps": 120, "epochs": 1.0, "rows": 960})
    assert rows[0][1].startswith("120 steps")
    assert rows[1:] == [
        ["rows read", "1,100"],
        ["dropped: same_text", "2"],
        ["dropped: too_long", "98"],
        ["rows trained on", "1,000 and 10 short ones"],
    ]


@pytest.mark.medium
@pytest.mark.usefixtures("prefect")
def test_without_a_recipe_a_model_is_trained_with_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    jobs: list[TrainingJob] = []

    def train(job: TrainingJob, **_: Any) -> TrainingResult:
        jobs.append(job)
        names = {"model": "models/pairs/12", "name": "pairs-12", "revision": "12", "kind": "adapter", "loss": "dpo"}
        figures = {
            "steps": 1,
            "longest_row": 4,
            "first_loss": 1.0,
            "last_loss": 1.0,
            "tensors_changed": 1,
            "tensors": 1,
        }
        return TrainingResult(**names, **figures, base="tiny", rows=1, pairs=1, source_rows=3, dropped={"empty": 2})

    monkeypatch.setattr("flows.train.run_training", train)
    monkeypatch.setattr("flows.cli.training.prefect_at", lambda _: contextlib.nullcontext())
    options = ("--data", "pairs.jsonl", "--model", "tiny", "--licence", "mit", "--split", "dpo")
    ended = _train(*options, "--set", "training.loss=dpo", "--set", "seed=3")
    (job,) = jobs
    assert job.pairs == PairSource("pairs.jsonl", split="dpo", licence="mit")
    assert (job.base, job.settings.loss, job.seed, job.manifest) == ("tiny", "dpo", 3, "")
    assert job.settings.dtype in ("bfloat16", "float32")  # auto was decided
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert lines[-4:] == [
        ["rows", "read", "3"],
        ["dropped:", "empty", "2"],
        ["rows", "trained", "on", "1"],
        ["adapter:", str(tmp_path / "mill/models/pairs/12")],
    ]
    assert json.loads(_train(*options, "--json").stdout)["dropped"] == {"empty": 2}

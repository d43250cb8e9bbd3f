"""`longmill train`: what is wrong is said before a server or a model starts, and where the rows went at the end."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from infra.errors import InputError, LongmillError, RecipeError
from tasks.reporting.tables import models_rows, trained_rows
from tests.flows.cli.test_cli import recipe_file
from tests.support.command import Command


def _train(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["train", *arguments], catch_exceptions=False)


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.cli.training.prefect_at", None)


@pytest.mark.usefixtures("no_server")
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((), RecipeError, "give either MANIFEST or --data"),
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
    trained = {"source_rows": 1100, "dropped": {"same_text": 2, "too_long": 98}, "pairs": 1010, "rows": 960}
    columns, rows = trained_rows(trained | {"short_rows": 10})
    assert columns == ["", "rows"]
    assert rows == [
        ["rows read", "1,100"],
        ["dropped: same_text", "2"],
        ["dropped: too_long", "98"],
        ["trained on", "1,000 of 950 questions"],
    ]


def test_models_stand_beside_one_another_with_their_difference_to_the_first() -> None:
    def figure(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    models = {}
    for name, value in (("a-1", 0.5), ("b-2", 0.6)):
        models[name] = {"before": {"sub_em": figure(0.4)}, "after": {"sub_em": figure(value)}}
    columns, rows = models_rows({"models": models, "differences": {"b-2": {"sub_em": figure(0.1)}}})
    assert columns == ["held-out questions", "before", "a-1", "b-2", "b-2 - a-1"]
    assert rows == [["sub em", "40.0 [30.0, 50.0]", "50.0 [40.0, 60.0]", "60.0 [50.0, 70.0]", "10.0 [0.0, 20.0]"]]


@pytest.mark.slow
def test_a_model_of_the_box_is_trained_on_a_file_with_the_defaults(tmp_path: Path) -> None:
    user = {"role": "user", "content": "Ada lives in Rome. Where does Ada live?"}
    rows = []
    for number in range(8):
        rows.append({"chosen": [user, _assistant(f"Rome {number}")], "rejected": [user, _assistant("Paris")]})
    rows.append({"prompt": "a", "chosen": "b", "rejected": "b"})
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("train", "--data", "pairs.jsonl", "--model", "microworld", "--licence", "mit")
    ended = Command(tmp_path, tmp_path, *options, "--set", "training.loss=dpo").ended(timeout_s=400)
    assert ended.status == 0, ended.err
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["rows", "read", "9"] in lines and ["dropped:", "same_text", "1"] in lines
    assert ["trained", "on", "8", "of", "1", "questions"] in lines
    folder = Path(lines[-1][-1])
    assert (folder / "adapter_model.safetensors").exists() and folder.parts[-3:-1] == ("models", "pairs")
    assert json.loads((folder / "job.json").read_text())["data"]["licence"] == "mit"


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}

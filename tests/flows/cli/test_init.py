"""The first recipe: from flags or from six answers, checked, with what the endpoints said, never over another."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import init as init_verb
from flows.cli.app import app
from flows.recipes import read_recipe
from infra.errors import InputError, LongmillError, UsageError
from tests.support.stub_server import MODEL, running_stub

AWAY = "http://127.0.0.1:9/v1"


def write_sources(folder: Path) -> None:
    (folder / "docs").mkdir()
    (folder / "docs/pier.txt").write_text("The pier opens on 4 May.", encoding="utf-8")
    rows = [
        {"question": "When?", "context": "On 4 May.", "answers": ["4 May"]},
        {"question": "何时？", "context": "五月"},
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "my questions.jsonl").write_text("\n".join(lines), encoding="utf-8")


def error_of(*words: str) -> LongmillError:
    error = CliRunner().invoke(app, ["init", *words]).exception
    assert isinstance(error, LongmillError)
    return error


def test_flags_give_a_recipe_that_passes_its_check_and_three_commands(folder: Path) -> None:
    write_sources(folder)
    with running_stub(max_model_len=8192) as stub:
        ended = CliRunner().invoke(app, ["init", "--questions", "my questions.jsonl", "--endpoint", stub.url])
    assert ended.exit_code == 0, ended.output
    recipe = read_recipe("recipe.yaml")
    assert (recipe.name, recipe.questions.source, recipe.contexts.build) == (
        "my-questions",
        "my questions.jsonl",
        "given",
    )
    assert (recipe.policy.name, recipe.policy.context_window, recipe.training) == (MODEL, 8192, None)
    assert f"policy: {MODEL} at {stub.url}: replied" in ended.stdout
    assert [line for line in ended.stdout.splitlines() if line.startswith("next: ")] == [
        "next: longmill doctor recipe.yaml",
        "next: longmill plan recipe.yaml",
        "next: longmill build recipe.yaml",
    ]
    assert "2 questions in the first 2 rows" in ended.stderr


@pytest.mark.medium
def test_a_model_on_this_machine_says_how_much_it_reads(folder: Path) -> None:
    write_sources(folder)
    ended = CliRunner().invoke(app, ["init", "--questions", "my questions.jsonl", "--model", "smollm2"])
    assert ended.exit_code == 0, ended.output
    assert read_recipe("recipe.yaml").policy.context_window == 8192


@pytest.mark.parametrize("method", ["sealong", "longreward"])
@pytest.mark.parametrize("source", ["documents", "questions"])
@pytest.mark.parametrize("train", [True, False])
def test_every_choice_gives_a_recipe_that_passes_its_check(folder: Path, method: str, source: str, train: bool) -> None:
    write_sources(folder)
    place = {"documents": "docs", "questions": "my questions.jsonl"}[source]
    words = [f"--{source}", place, "--method", method, "--model", "Qwen/Qwen3-8B", "--store", "s3://bucket/a"]
    words += ["--judge", AWAY, "--judge-model", "Qwen/Qwen3-32B", "--judge-key-env", "JUDGE_KEY"]
    ended = CliRunner().invoke(app, ["init", *words, "--train" if train else "--no-train", "--json"])
    assert ended.exit_code == 0, ended.output
    recipe = read_recipe("recipe.yaml")
    assert recipe.store == "s3://bucket/a"
    assert recipe.policy.serve is not None
    assert (recipe.documents is not None, recipe.training is not None) == (source == "documents", train)
    assert (recipe.judge is None) == (method == "sealong" and source == "questions")
    if recipe.judge is not None:
        assert recipe.judge.api_key_env == "JUDGE_KEY"
    assert len(recipe.scoring.scorers) == (1 if method == "sealong" else 4)


def test_six_answers_on_a_terminal_are_enough(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sources(folder)
    monkeypatch.setattr(init_verb, "on_terminal", lambda: True)
    with running_stub() as stub:
        answers = ["docs", "", stub.url, stub.url, "", "mill", "n"]  # empty: what is offered
        ended = CliRunner().invoke(app, ["init"], input="\n".join(answers) + "\n")
    assert ended.exit_code == 0, ended.output
    recipe = read_recipe("recipe.yaml")
    assert recipe.documents is not None
    assert recipe.judge is not None
    assert len(recipe.scoring.scorers) == 4
    assert "context_window is a guess" in ended.output


def test_an_endpoint_that_is_away_is_said_and_the_recipe_is_written(folder: Path) -> None:
    write_sources(folder)
    ended = CliRunner().invoke(app, ["init", "--documents", "docs", "--endpoint", AWAY, "--model", "m"])
    assert ended.exit_code == 0, ended.output
    assert f"policy: {AWAY} does not list its models" in ended.stderr
    assert "no reply: no endpoint can be reached" in ended.stdout
    assert read_recipe("recipe.yaml").policy.endpoints == (AWAY,)


def test_a_model_without_a_name_at_an_endpoint_that_is_away_is_an_error_that_says_why(folder: Path) -> None:
    write_sources(folder)
    ended = CliRunner().invoke(app, ["init", "--documents", "docs", "--endpoint", AWAY])
    assert isinstance(ended.exception, UsageError)
    assert f"--model, for {AWAY} does not list its models" in str(ended.exception)


def test_a_recipe_is_never_written_over_without_force(folder: Path) -> None:
    write_sources(folder)
    (folder / "recipe.yaml").write_text("mine")
    words = ("--documents", "docs", "--model", "m")
    assert isinstance(error_of(*words), InputError)
    assert (folder / "recipe.yaml").read_text() == "mine"
    assert CliRunner().invoke(app, ["init", *words, "--force"]).exit_code == 0
    assert read_recipe("recipe.yaml").policy.name == "m"


def test_what_is_missing_or_contradicts_itself_is_named(folder: Path) -> None:
    write_sources(folder)
    assert "--questions FILE or --documents FOLDER" in str(error_of())
    assert "either --questions or --documents" in str(error_of("--questions", "a", "--documents", "b"))
    assert "with --model" in str(error_of("--documents", "docs"))
    assert "longreward needs a judge" in str(error_of("--documents", "docs", "--model", "m", "--method", "longreward"))
    assert "no such file or folder" in str(error_of("--documents", "nowhere", "--model", "m"))
    assert isinstance(error_of("--documents", "docs", "--model", "m", "--method", "magic"), UsageError)
    assert not (folder / "recipe.yaml").exists()

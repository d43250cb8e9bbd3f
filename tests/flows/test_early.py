"""Early words: what would cost money or a night is found at once, in one short message, with its exit status."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.doctor import run_checks
from flows.early import check_early, check_windows
from infra.errors import LongmillError, PrerequisiteError, RecipeError
from infra.models.api_key import read_api_key
from infra.store import open_store
from tasks.planning.make_plan import make_plan
from tests.support.planning import small_recipe, write_rows
from tests.support.tiny_model import TEMPLATE, tiny_tokenizer

SETTINGS: dict[str, Any] = {
    "name": "early",
    "store": "mill",
    "questions": {"source": "questions.jsonl"},
    "policy": {"name": "m", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:9/v1"]},
    "scoring": {"scorers": [{"scorer": "consensus", "similarity": "rouge_l"}]},
    "dataset": {"name": "early", "licence": "cc0-1.0"},
    "training": None,
    "evaluation": None,
}
COUNTS_MESSAGES = TEMPLATE.replace("<bos>", "<bos>{{ messages | length }}", 1)
# The template opens a thinking block that is not there once an answer follows, as R1-like templates do.
OPENS_THINKING = TEMPLATE.replace("<assistant>{% endif %}", "<assistant><think>{% endif %}")


def refused(*arguments: str) -> LongmillError:
    """The error that a command ends with; `run_to_the_end` makes a line and an exit status of it."""
    ended = CliRunner().invoke(app, list(arguments))
    assert isinstance(ended.exception, LongmillError), (ended.output, ended.exception)
    return ended.exception


def write_recipe(text: str = "", **sections: Any) -> str:
    Path("recipe.yaml").write_text(text or yaml.safe_dump(SETTINGS | sections), encoding="utf-8")
    write_rows(Path("questions.jsonl"), [{"question": "What is the capital?", "context": "It is Paris. " * 20}])
    return "recipe.yaml"


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            "name: a\nsampling: {samples: 4}\nbudget: {}\nsampling: {n: 1}\n",
            r"`sampling` comes twice, in lines 2 and 4",
        ),
        ("name: a\nsampling:\n  samples: 4\n  samples: 8\n", r"the key `samples` comes twice, in lines 3 and 4"),
        ({"dataset": {"name": "..", "licence": "x"}}, r"dataset\.name: '\.\.' is no name"),
        ({"dataset": {"name": "org/pairs", "licence": "x"}}, r"dataset\.name: 'org/pairs' is no name"),
        ({"name": "."}, r"name: '\.' is no name"),
        ({"dataset": {"name": 1.0, "licence": "x"}}, r"dataset\.name: 1\.0 is no text; write it in quotes"),
        (
            {"policy": {**SETTINGS["policy"], "endpoints": "http://a/v1"}},
            r"policy\.endpoints: a text in place of a list; write \[http://a/v1\]",
        ),
        ({"policy": {**SETTINGS["policy"], "endpoints": ["a:80/v1"]}}, r"endpoint a:80/v1: a URL begins with http"),
        ({"policy": {**SETTINGS["policy"], "endpoints": ["${URL}"]}}, r"variables of the environment are not filled"),
        ({"scoring": {"scorers": {"scorer": "consensus"}}}, r"scoring\.scorers: a mapping in place of a list"),
    ],
)
def test_a_recipe_that_says_something_else_than_it_seems(folder: Path, recipe: Any, message: str) -> None:
    path = write_recipe(recipe) if isinstance(recipe, str) else write_recipe(**recipe)
    with pytest.raises(RecipeError, match=message) as error:
        raise refused("plan", path)
    assert error.value.exit_code == 2
    assert not Path("mill").exists()


def test_merged_keys_and_aliases_are_no_repetition(folder: Path) -> None:
    lines = yaml.safe_dump(SETTINGS | {"policy": None}).replace("policy: null\n", "")
    lines += "policy: &m {name: m, tokenizer: microworld, endpoints: ['http://127.0.0.1:9/v1']}\n"
    lines += "judge: {<<: *m, name: other}\n"
    ended = CliRunner().invoke(app, ["plan", write_recipe(lines), "--json"])
    assert ended.exit_code == 0, ended.exception


def test_a_repeated_key_in_a_change_is_one_too(folder: Path) -> None:
    error = refused("plan", write_recipe(), "--set", "sampling={samples: 4, samples: 8}")
    assert "`samples` comes twice" in str(error)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("sk-secret\n", "begins or ends with a line break"),
        (" sk-secret", "begins or ends with a space"),
        ("“sk-secret”", "stands in quotation marks"),
        ("'sk-secret'", "stands in quotation marks"),
        ("sk-“secret", r"a character that no key has \(U\+201C, at place 4 of 10\)"),
        ("sk-se\ncret", r"U\+000A, at place 6"),
    ],
)
def test_a_key_that_cannot_be_sent_is_named_without_being_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: str, message: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    for verb in ("plan", "build"):
        with pytest.raises(PrerequisiteError, match=f"OPENAI_API_KEY.*{message}|the key in.*{message}") as error:
            raise refused(verb, write_recipe())
        assert "secret" not in str(error.value)
        assert error.value.exit_code == 6
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj_a.b/c+d=")
    assert read_api_key("OPENAI_API_KEY") == "sk-proj_a.b/c+d="


@pytest.mark.parametrize("verb", ["build", "run"])
def test_a_prefect_server_out_of_reach_is_one_line_with_the_way_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://user:secret@127.0.0.1:9/api")
    error = refused(verb, write_recipe())
    assert str(error).startswith("PREFECT_API_URL=http://127.0.0.1:9/api does not answer (")
    assert "unset PREFECT_API_URL" in str(error)
    assert "\n" not in str(error)
    assert error.exit_code == 6


def save_tokenizer(folder: Path, template: str | None) -> str:
    tokenizer = tiny_tokenizer(template or TEMPLATE)
    if template is None:
        tokenizer.chat_template = None
    tokenizer.save_pretrained(folder / "base")
    return str(folder / "base")


@pytest.mark.medium
@pytest.mark.parametrize(
    ("template", "message"),
    [
        (COUNTS_MESSAGES, "renders the prompt differently when an answer follows"),
        (None, "has no chat template"),
        ("{{ raise_exception('no such role') }}", "no such role"),
    ],
)
def test_a_template_that_training_refuses_is_found_at_plan_time(
    folder: Path, template: str | None, message: str
) -> None:
    base = save_tokenizer(folder, template)
    path = write_recipe(training={"base": base})
    for verb in ("plan", "build", "run"):
        error = refused(verb, path)
        assert isinstance(error, RecipeError), verb
        assert message in str(error), verb
        assert "set training to null" in str(error)
        assert error.exit_code == 2
    ended = CliRunner().invoke(app, ["plan", path, "--set", "training=null"])
    assert ended.exit_code == 0, ended.exception
    base_is_fine = save_tokenizer(folder, TEMPLATE)
    assert CliRunner().invoke(app, ["plan", path, "--set", f"training.base={base_is_fine}"]).exit_code == 0


def test_what_training_makes_of_a_template_that_thinks_is_said_at_plan_time(folder: Path) -> None:
    path = write_recipe(training={"base": save_tokenizer(folder, OPENS_THINKING)})
    ended = CliRunner().invoke(app, ["plan", path], env={"COLUMNS": "1000"})
    assert ended.exit_code == 0, ended.exception
    assert "the generation prompt opens a block of thinking (<think>), and answers are trained without" in ended.output
    ended = CliRunner().invoke(app, ["plan", path, "--set", "training.reasoning=keep"], env={"COLUMNS": "1000"})
    assert "the chat template leaves reasoning out; it is trained after the generation prompt" in ended.output
    ended = CliRunner().invoke(app, ["plan", path, "--set", f"training.base={save_tokenizer(folder, TEMPLATE)}"])
    assert "reasoning" not in ended.output


def test_a_base_model_with_another_template_than_the_policys_is_named(folder: Path) -> None:
    recipe = small_recipe(folder, training={"base": save_tokenizer(folder, TEMPLATE)})
    (note,) = check_early(recipe)
    assert "writes the prompt in another way than that of policy.tokenizer" in note
    same = recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"tokenizer": str(folder / "base")})})
    assert check_early(same) == []


def test_a_base_model_that_is_not_here_stops_a_run_that_trains_and_no_plan(folder: Path) -> None:
    path = write_recipe(training={"base": "./nowhere"})
    error = refused("run", path)
    assert "training needs the tokenizer of its base model './nowhere'" in str(error)
    assert CliRunner().invoke(app, ["plan", path]).exit_code == 0


@contextmanager
def list_of_models(body: dict[str, Any], status: int = 200) -> Iterator[str]:
    """A server with a list of models alone; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *arguments: Any) -> None:
            """Nothing is printed."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def vllm(window: int) -> dict[str, Any]:
    return {"data": [{"id": "other", "max_model_len": 1}, {"id": "stub", "max_model_len": window}]}


@pytest.mark.medium
def test_a_server_with_a_smaller_window_is_named_by_doctor_and_before_the_first_call(folder: Path) -> None:
    rows = [{"question": "What?", "context": "It is Paris. " * 30}]  # 390 tokens
    with list_of_models(vllm(400)) as url:
        recipe = small_recipe(folder, rows, policy={"endpoints": [url]})
        faults = dict(run_checks(recipe))
        assert "max_model_len = 400, less than policy.context_window = 4096" in faults[f"policy's endpoint {url}"]
        store = open_store(recipe.store)
        with pytest.raises(RecipeError, match=r"longest context has 39\d tokens.*--max-model-len 4096") as error:
            check_windows(recipe, make_plan(recipe, store), store)
        assert error.value.exit_code == 2
    with list_of_models(vllm(600)) as url:  # smaller than the recipe's window, and large enough for this plan
        recipe = recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"endpoints": (url,)})})
        check_windows(recipe, make_plan(recipe, store), store)


@pytest.mark.medium
@pytest.mark.parametrize("body", [{}, {"data": []}, {"data": [{"id": "stub"}]}, {"data": "x"}, {"data": [1]}])
def test_a_server_that_does_not_tell_its_window_is_left_alone(folder: Path, body: dict[str, Any]) -> None:
    rows = [{"question": "What?", "context": "It is Paris."}]
    for status in (200, 404):
        with list_of_models(body, status) as url:
            recipe = small_recipe(folder, rows, policy={"endpoints": [url]})
            store = open_store(recipe.store)
            check_windows(recipe, make_plan(recipe, store), store)
    check_early(recipe)


def test_rows_that_would_stop_a_build_are_a_note_of_the_plan(folder: Path) -> None:
    path = write_recipe()
    write_rows(
        Path("questions.jsonl"), [{"question": "", "context": "It is Paris."}, {"question": "a", "context": "b"}]
    )
    ended = CliRunner().invoke(app, ["plan", path], env={"COLUMNS": "300"})
    assert "a build stops here: 1 of 2 rows cannot be used, more than execution.max_drop_share = 0.2" in ended.output

"""`longmill evaluate` without a recipe: served models by name and URL, suites, a judge; and lm-eval beside it."""

import json
import stat
import sys
from pathlib import Path

import pytest

from flows.cli.evaluating import evaluate
from flows.cli.models_at import (
    check_names,
    check_second_model,
    evaluation_recipe,
    served_model,
    with_judge,
    with_suites,
)
from flows.recipes import read_recipe
from infra.errors import EvaluationError, PrerequisiteError, RecipeError, UsageError
from infra.recipe import Recipe
from tasks.evaluation.calls import calls_by_section
from tasks.evaluation.lm_eval import find_lm_eval, lm_eval_arguments, run_lm_eval
from tests.support.scripted_judge import judged_recipe
from tests.support.stub_server import running_stub

LM_EVAL = """#!{python}
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--output_path") + 1])
if "broken" in sys.argv:
    print("ValueError: no such task")
    sys.exit(3)
(folder / "model").mkdir()
results = {{"results": {{"gsm8k": {{"alias": "gsm8k", "exact_match,strict-match": 0.5, "exact_match_stderr": "N/A"}}}}}}
(folder / "model" / "results_2026.json").write_text(json.dumps(results))
(folder / "arguments.json").write_text(json.dumps(sys.argv[1:]))
"""


def recipe_of(url: str = "http://127.0.0.1:9/v1", judge: str = "", **options: object) -> Recipe:
    served = [served_model(f"my-8b={url}")]
    return evaluation_recipe(served, judge, "microworld", int(str(options.get("window", 4096))), "mill", ())


def test_a_served_model_is_written_with_its_name_and_its_revision() -> None:
    assert served_model("a=http://x/v1/").as_trained()["endpoint"] == "http://x/v1"
    named = served_model("org/model@step400=https://x/v1")
    assert (named.name, named.revision, named.url) == ("org/model", "step400", "https://x/v1")
    for text in ("a", "a=folder", "=http://x/v1"):
        with pytest.raises(RecipeError, match="NAME=URL"):
            served_model(text)


def test_two_models_with_one_name_would_share_their_answers() -> None:
    recipe = recipe_of()
    check_names([served_model("my-8b@2=http://x/v1").as_trained()], recipe)
    with pytest.raises(RecipeError, match=r"two models are called my-8b, revision main.*NAME@REVISION=URL"):
        check_names([served_model("my-8b=http://x/v1").as_trained()], recipe)


def test_the_window_is_the_servers_own_and_the_judge_is_named() -> None:
    with running_stub() as stub:
        stub.options.max_model_len, stub.options.model = 12345, "my-8b"
        asked_for_window = evaluation_recipe([served_model(f"my-8b={stub.url}")], "", "microworld", 0, "mill", ())
        assert asked_for_window.policy.context_window == 12345
    assert recipe_of().policy.context_window == 4096
    judge = recipe_of(judge="big@3=https://api.example.com/v1").judge
    assert judge is not None
    assert (judge.name, judge.revision, judge.prompts) == ("big", "3", "full")
    other = with_judge(judged_recipe(), "big=https://api.example.com/v1").judge
    assert other is not None
    assert (other.name, other.prompts) == ("big", "terse")  # how a judge is asked stays the recipe's


def test_without_a_model_or_its_tokenizer_there_is_a_clear_error() -> None:
    with pytest.raises(RecipeError, match="give a recipe, or a served model"):
        evaluate()
    with pytest.raises(PrerequisiteError, match=r"nobody: its tokenizer is not at hand .* give --tokenizer"):
        evaluation_recipe([served_model("nobody=http://127.0.0.1:9/v1")], "", "", 0, "mill", ())


def test_suites_are_named_with_their_questions_or_as_yaml() -> None:
    recipe = with_suites(recipe_of(), ["qa", "short=rows.jsonl", "{name: choice, orders: 3}"])
    assert recipe.evaluation is not None
    assert recipe.evaluation.suites == (
        "qa",
        {"name": "short", "questions": {"source": "rows.jsonl"}},
        {"name": "choice", "orders": 3},
    )
    with pytest.raises(RecipeError, match="not valid YAML"):
        with_suites(recipe, ["{name: ["])


def test_a_suite_that_compares_two_models_wants_a_second_one() -> None:
    recipe = with_suites(read_recipe("longreward"), ["qa", "judged_pairs"])
    with pytest.raises(UsageError, match="judged_pairs compares the answers of two models, and there is one"):
        check_second_model(recipe, [])
    check_second_model(recipe, [{"name": "other"}])
    check_second_model(with_suites(recipe, ["qa"]), [])


def test_judgements_are_paid_to_the_judge() -> None:
    calls = {"evaluate": 1, "evaluate after": 2, "evaluate_sample": 3, "evaluate_rate_answer after": 4, "probe": 5}
    recipe = judged_recipe(evaluation={"suites": ["longmemeval"]})
    assert calls_by_section(calls, recipe) == {
        "policy": {"evaluate": 1, "evaluate after": 2, "evaluate_sample": 3},
        "judge": {"evaluate_rate_answer after": 4, "probe": 5},
    }


@pytest.fixture
def lm_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of lm-eval."""
    program = tmp_path / "bin" / "lm_eval"
    program.parent.mkdir()
    program.write_text(LM_EVAL.format(python=sys.executable), encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", "")
    return program


def test_lm_eval_is_run_at_the_endpoint_of_the_model(tmp_path: Path, lm_eval: Path) -> None:
    model = recipe_of().policy
    assert find_lm_eval() == str(lm_eval)
    results = run_lm_eval(model, "gsm8k", True, tmp_path / "out", ("--limit", "5"))
    assert results == {"gsm8k": {"exact_match,strict-match": 0.5}}
    arguments = json.loads((tmp_path / "out" / "arguments.json").read_text(encoding="utf-8"))
    assert arguments[:2] == ["--model", "local-chat-completions"]
    assert "base_url=http://127.0.0.1:9/v1/chat/completions" in arguments[3]
    assert arguments[-2:] == ["--limit", "5"]
    plain = lm_eval_arguments(model, "mmlu", False, tmp_path)
    assert "base_url=http://127.0.0.1:9/v1/completions" in plain[3]
    assert "tokenizer=" in plain[3]
    with pytest.raises(EvaluationError, match=r"status 3 and no results.*ValueError: no such task"):
        run_lm_eval(model, "gsm8k", True, tmp_path / "out", ("broken",))


def test_without_lm_eval_the_command_says_how_to_get_it(tmp_path: Path, lm_eval: Path) -> None:
    lm_eval.unlink()
    with pytest.raises(
        PrerequisiteError, match=r"there is no command lm_eval; install it: pip install 'lm-eval\[api\]'"
    ):
        evaluate(lm_eval="gsm8k")

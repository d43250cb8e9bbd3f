"""The checks before a run: every model of a recipe is checked, and a message names the key at fault."""

from pathlib import Path
from typing import Any

import pytest

from flows.cli.doctor import require_machine, run_checks
from infra.errors import PrerequisiteError
from infra.recipe import Recipe, parse_recipe
from tests.support.batch_stub import running_batches
from tests.support.judge_replies import prompt_in, running_judge
from tests.support.planning import small_recipe
from tests.support.stub_server import running_stub

TRIAL = "judge's replies to 32 small calls"
JUDGE = {"name": "critic", "tokenizer": "microworld"}


def faults_of(recipe: Recipe) -> dict[str, str]:
    return {name: fault for name, fault in run_checks(recipe) if fault}


def recipe_for(folder: Path, **judge: Any) -> Recipe:
    return small_recipe(folder, judge={**JUDGE, **judge})


def test_every_endpoint_is_checked_and_named_by_its_section(folder: Path) -> None:
    faults = faults_of(recipe_for(folder, endpoints=["http://127.0.0.1:9/v2"]))
    assert "mend policy.endpoints" in faults["policy's endpoint http://127.0.0.1:9/v1"]
    assert "mend judge.endpoints" in faults["judge's endpoint http://127.0.0.1:9/v2"]


def test_a_judge_that_is_served_here_needs_python_model_and_port(folder: Path) -> None:
    serve = {"model_path": "/nowhere/model", "python": "nowhere/bin/python"}
    faults = faults_of(recipe_for(folder, serve=serve))
    assert "judge.serve.python" in faults["environment for vLLM of the judge"]
    assert "judge.serve.model_path" in faults["model /nowhere/model of the judge"]
    with pytest.raises(PrerequisiteError, match=r"judge\.serve\.python.*judge\.serve\.model_path"):
        require_machine(recipe_for(folder, serve=serve))


def test_a_tokenizer_that_cannot_be_loaded_is_named(folder: Path) -> None:
    faults = faults_of(recipe_for(folder, tokenizer=str(folder / "none"), endpoints=["http://127.0.0.1:9/v2"]))
    assert f"judge's tokenizer {folder / 'none'}" in faults


def test_a_rule_based_judge_needs_nothing(folder: Path) -> None:
    recipe = recipe_for(folder, name="rule-based", rule_based=True, prompts="terse")
    assert not [name for name in faults_of(recipe) if "judge" in name]
    require_machine(recipe)


@pytest.mark.parametrize("reply", ["[[7]]", "Rating: 7/10 – the year is missing."])
def test_a_judge_whose_replies_can_be_used_passes_its_trial(folder: Path, reply: str) -> None:
    def of(body: dict[str, Any]) -> str:
        return "<statement>A is.</statement>" if "<statement>" in prompt_in(body) else reply

    with running_judge(of) as judge:
        faults = faults_of(recipe_for(folder, name="stub", endpoints=[judge.url], structured="never"))
        assert TRIAL not in faults
        assert len(judge.bodies) == 32
    assert not list(folder.rglob("*.parquet"))  # no ledger


def test_a_judge_whose_replies_cannot_be_used_is_reported_with_three_of_them(folder: Path) -> None:
    with running_judge(lambda body: "What a good answer!") as judge:
        faults = faults_of(recipe_for(folder, name="stub", endpoints=[judge.url], structured="never"))
        assert len(judge.bodies) == 32  # each once
    assert "32 of its first 32 replies to all kinds cannot be used" in faults[TRIAL]
    assert faults[TRIAL].count("“What a good answer!”") == 3


def test_scorers_without_the_judge_that_they_need_are_reported(folder: Path) -> None:
    settings = small_recipe(folder).model_dump(mode="json")
    recipe = parse_recipe({**settings, "scoring": {"scorers": [{"scorer": "helpfulness"}]}})
    assert "helpfulness asks a judge" in faults_of(recipe)["scorers"]


def test_a_scorers_own_model_that_is_not_there_is_reported(folder: Path) -> None:
    settings = small_recipe(folder).model_dump(mode="json")
    scorers = [{"scorer": "consensus", "similarity": "rouge_l"}, {"scorer": "reward_model", "model": "./no-model"}]
    recipe = parse_recipe({**settings, "scoring": {"scorers": scorers}})
    assert "reward_model.model: cannot load './no-model'" in faults_of(recipe)["scorers"]


def test_what_a_server_refuses_by_form_is_settled_and_named(folder: Path) -> None:
    length = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    with running_stub(refuses={"max_tokens": length}) as stub:
        recipe = small_recipe(folder, policy={"endpoints": [stub.url]})
        names = [name for name, fault in run_checks(recipe) if not fault]
        assert stub.requests == 2
    (line,) = [name for name in names if name.startswith("policy's reply to a small call")]
    assert "max_tokens is sent as max_completion_tokens" in line


def test_a_real_refusal_is_named_with_the_server_s_words(folder: Path) -> None:
    with running_stub(refuses={"top_k": "top_k is only for gold customers"}) as stub:
        recipe = small_recipe(folder, policy={"endpoints": [stub.url], "parameters": {"top_k": 20}})
        faults = faults_of(recipe)
    assert "top_k is only for gold customers" in faults["policy's reply to a small call"]


def test_a_header_without_its_variable_is_missing_before_anything_starts(folder: Path) -> None:
    recipe = small_recipe(folder, policy={"headers": {"api-key": "NO_SUCH_VARIABLE"}})
    with pytest.raises(PrerequisiteError, match=r"policy\.headers: api-key needs .* NO_SUCH_VARIABLE"):
        require_machine(recipe)


@pytest.mark.medium
def test_an_endpoint_without_batches_is_named_where_the_recipe_wants_them(folder: Path) -> None:
    with running_batches() as stub, running_stub() as other:
        for url, missing in ((stub.url, False), (other.url, True)):
            recipe = small_recipe(folder, policy={"endpoints": [url], "mode": "batch"})
            fault = faults_of(recipe).get("policy's batches", "")
            assert ("has no batches" in fault and "mode: live" in fault) == missing
    assert stub.sizes == []

"""What must hold of the policy's training: its stages follow each other, and a killed one goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PROMPTS = Path(__file__).parents[3] / "tasks/prompts/en"


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    from tasks.microworld import train_policy
    from tasks.microworld.train_policy import Stage

    monkeypatch.setattr(train_policy, "export_policy", lambda model, *_: {"model": model})
    monkeypatch.setattr(train_policy, "_SAVE_EVERY", 2)
    return [
        Stage("lookup", steps=3, learning_rate=3e-3, max_documents=8, echo_steps=1, restate_steps=1, tokens=400),
        Stage("imperfect", steps=3, learning_rate=1e-3, max_documents=8, imperfect=True, tokens=400),
    ]


def same(one: Any, two: Any) -> None:
    import torch

    for name, weight in one.state_dict().items():
        torch.testing.assert_close(weight, two.state_dict()[name], rtol=1e-5, atol=1e-7)


def test_training_goes_on_where_it_was_killed_and_done_stages_are_not_run_again(
    tmp_path: Path, stages: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.microworld import train_policy

    whole = train_policy.train_policy(PROMPTS, tmp_path / "whole", tmp_path, 0, stages)["model"]

    class Killed(Exception):
        pass

    def killed(*_: Any) -> float:
        raise Killed

    train_step = train_policy._train_step
    with monkeypatch.context() as patched, pytest.raises(Killed):
        steps = iter([*[train_step] * 5, killed])  # in the second stage, one step after its checkpoint
        patched.setattr(train_policy, "_train_step", lambda *arguments: next(steps)(*arguments))
        train_policy.train_policy(PROMPTS, tmp_path / "killed", tmp_path, 0, stages)
    losses: list[float] = []

    def counted(*arguments: Any) -> float:
        losses.append(train_step(*arguments))
        return losses[-1]

    monkeypatch.setattr(train_policy, "_train_step", counted)
    resumed = train_policy.train_policy(PROMPTS, tmp_path / "killed", tmp_path, 0, stages)["model"]
    assert len(losses) == 1
    same(whole, resumed)


def test_a_stage_begins_with_the_model_of_the_one_before(tmp_path: Path, stages: list[Any]) -> None:
    import torch
    from transformers import LlamaForCausalLM

    from tasks.microworld import train_policy

    train_policy.train_policy(PROMPTS, tmp_path, tmp_path, 0, stages)
    first = torch.load(tmp_path / "lookup/checkpoint.pt", weights_only=True)["average"]
    exported = LlamaForCausalLM.from_pretrained(tmp_path / "lookup/model").state_dict()
    assert all(torch.equal(exported[name], weight) for name, weight in first.items())
    still = [*stages[:1], stages[1].__class__("still", steps=1, learning_rate=0.0, max_documents=8, tokens=400)]
    unchanged = train_policy.train_policy(PROMPTS, tmp_path, tmp_path, 0, still)["model"]
    for name, weight in unchanged.state_dict().items():
        torch.testing.assert_close(weight, first[name])


def test_another_seed_gives_other_lessons(stages: list[Any]) -> None:
    import dataclasses

    import torch

    from tasks.microworld.policy_lessons import read_prompts
    from tasks.microworld.tokenizer import build_tokenizer
    from tasks.microworld.train_policy import lesson_batch

    tokenizer, prompts = build_tokenizer(PROMPTS), read_prompts(PROMPTS)
    one, again, other = (
        lesson_batch(dataclasses.replace(stages[1], seed=seed), tokenizer, prompts, 0).tokens for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert one.shape != other.shape or not torch.equal(one, other)


def test_the_log_is_drawn_a_panel_for_each_stage(tmp_path: Path) -> None:
    from flows.cli.microworld import curves_plot, read_log

    lines = [{"step": step, "loss": 1.0, "right": {"facts": 50.0, "notes": 10.0}} for step in (20, 0, 20)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [line["step"] for line in read_log(tmp_path)] == [0, 20]
    assert curves_plot({"judge": read_log(tmp_path)}).startswith(b"\x89PNG")


def test_a_training_ends_with_a_folder_that_loads_and_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tasks.microworld import policy_accuracy
    from tasks.microworld.train_policy import Stage, train_policy

    monkeypatch.setattr(policy_accuracy, "LENGTHS", (128,))
    monkeypatch.setattr(policy_accuracy, "QUESTIONS", 4)
    out = tmp_path / "out"
    stages = [Stage("lookup", steps=1, learning_rate=3e-3, max_documents=8, tokens=400)]
    measured = train_policy(PROMPTS, tmp_path / "work", out, 0, stages)
    assert list(measured) == ["plan_and_solve@128", "direct_answer@128"]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "1 steps of 'lookup'" in card
    assert "| direct_answer | 128 | all | 4 |" in card
    assert AutoModelForCausalLM.from_pretrained(out).num_parameters() > 1_000_000
    assert len(AutoTokenizer.from_pretrained(out)) > 2_000

"""What must hold of the judge's batches, of its training, and of the model in the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.microworld.judge_lessons import Desk, make_scene, open_desk
from infra.microworld.tokenizer import build_tokenizer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PROMPTS, POLICY = ROOT / "tasks/prompts/en", ROOT / "infra/microworld/policy"


@pytest.fixture(scope="module")
def desk() -> Desk:
    return open_desk(PROMPTS, build_tokenizer(PROMPTS))


@pytest.fixture(scope="module")
def model(desk: Desk) -> Any:
    from infra.microworld.train_judge import judge_from_policy

    return judge_from_policy(POLICY, desk.tokenizer, 5).eval()


def test_a_call_in_a_batch_is_read_as_it_would_be_alone(desk: Desk, model: Any) -> None:
    import torch

    from infra.microworld.judge_batches import batched, prompt_ids

    scenes = [make_scene(desk, kind, "batch", 2) for kind in ("notes", "helpfulness", "logicality")]
    prompts = {tuple(prompt_ids(desk.tokenizer, each.shared + call.own)) for each in scenes for call in each.calls}
    for batch in batched(desk.tokenizer, scenes):
        with torch.no_grad():
            hidden = model.model(
                input_ids=batch.tokens, position_ids=batch.positions, attention_mask=batch.visible
            ).last_hidden_state
        for row in range(len(batch.tokens)):
            calls, positions = batch.calls[row], batch.positions[row]
            for number in range(int(calls.max()) + 1):
                first = int(torch.nonzero((calls == number) & (batch.kinds[row] >= 0))[0])  # token of the reply
                seen = [place for place in range(first) if calls[place] in (-1, number)]
                ids = batch.tokens[row, seen]
                assert positions[seen].tolist() == list(range(len(seen)))
                assert tuple(ids.tolist()) in prompts
                with torch.no_grad():
                    own = model.model(input_ids=ids[None]).last_hidden_state[0, -1]
                torch.testing.assert_close(hidden[row, first - 1], own, rtol=1e-3, atol=1e-3)


def test_a_prompt_is_what_the_chat_template_writes(desk: Desk) -> None:
    from infra.microworld.judge_batches import prompt_ids

    text = make_scene(desk, "support", "chat", 1).shared
    chat = [{"role": "user", "content": text}]
    written = desk.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompt_ids(desk.tokenizer, text) == desk.tokenizer(written, add_special_tokens=False).input_ids


def test_every_kind_weighs_the_same_however_many_calls_it_has(desk: Desk) -> None:
    from infra.microworld.judge_batches import KINDS, batched

    scenes = [make_scene(desk, kind, "weigh", calls) for kind, calls in (("helpfulness", 2), ("logicality", 5))]
    weights = dict.fromkeys(("helpfulness", "logicality"), 0.0)
    for batch in batched(desk.tokenizer, scenes):
        for kind in weights:
            weights[kind] += batch.weights[batch.kinds == KINDS.index(kind)].sum().item()
    assert weights["helpfulness"] == pytest.approx(weights["logicality"]) != 0


def test_a_judge_begins_as_the_policy_on_the_words_that_both_know(desk: Desk, model: Any) -> None:
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    known = AutoTokenizer.from_pretrained(POLICY)
    policy = LlamaForCausalLM.from_pretrained(POLICY).eval()
    text = "Passage 1: Abrtan\nAbrtan was taught by Borlena.\n\nThe mentor of Abrtan is"
    old, new = known(text, return_tensors="pt").input_ids, desk.tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        before, after = policy.model(old).last_hidden_state, model.model(new).last_hidden_state
    torch.testing.assert_close(before, after)


def test_training_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from infra.microworld import judge_batches, train_judge
    from infra.microworld.train_judge import Settings

    monkeypatch.setattr(judge_batches, "PLAN", {"helpfulness": (1, 2), "logicality": (1, 1)})

    monkeypatch.setattr(train_judge, "export", lambda *_: {})
    monkeypatch.setattr(train_judge, "_SAVE_EVERY", 2)
    settings = Settings(steps=3, layers=3)
    train_judge.train_judge(settings, POLICY, PROMPTS, tmp_path / "whole", tmp_path / "out")

    class Killed(Exception):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        learn = train_judge._learn
        steps = iter([learn, learn, killed])
        patched.setattr(train_judge, "_learn", lambda *arguments: next(steps)(*arguments))
        train_judge.train_judge(settings, POLICY, PROMPTS, tmp_path / "resumed", tmp_path / "out")
    train_judge.train_judge(settings, POLICY, PROMPTS, tmp_path / "resumed", tmp_path / "out")
    states = [torch.load(tmp_path / each / "checkpoint.pt", weights_only=True) for each in ("whole", "resumed")]
    for name, weight in states[0]["average"].items():
        torch.testing.assert_close(weight, states[1]["average"][name], rtol=1e-5, atol=1e-7)

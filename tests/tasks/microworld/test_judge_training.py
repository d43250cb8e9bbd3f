"""What must hold of the judge's batches, of its training, and of the model in the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.microworld import rules
from tasks.microworld.judge_lessons import Desk, make_scene, open_desk
from tasks.microworld.tokenizer import build_tokenizer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PROMPTS, POLICY = ROOT / "tasks/prompts/en", ROOT / "infra/models/box/microworld"


@pytest.fixture(scope="module")
def desk() -> Desk:
    return open_desk(PROMPTS, build_tokenizer(PROMPTS))


@pytest.fixture(scope="module")
def model(desk: Desk) -> Any:
    import torch

    from tasks.microworld.judge_start import judge_from_policy

    torch.manual_seed(0)
    return judge_from_policy(POLICY, PROMPTS, desk.tokenizer, 5).eval()


def test_a_call_in_a_batch_is_read_as_it_would_be_alone(desk: Desk, model: Any) -> None:
    import torch

    from tasks.microworld.branched import BRANCHED
    from tasks.microworld.judge_batches import batched, prompt_ids

    scenes = [make_scene(desk, kind, "batch", 2) for kind in ("notes", "helpfulness", "completeness")]
    for scene, batch in zip(scenes, batched(desk.tokenizer, scenes), strict=True):
        model.set_attn_implementation(BRANCHED)
        with torch.no_grad():
            hidden = model.model(
                input_ids=batch.tokens, position_ids=batch.positions, shared=batch.shared, calls=batch.calls
            ).last_hidden_state
        model.set_attn_implementation("sdpa")
        own = (batch.tokens.shape[1] - batch.shared) // batch.calls
        for number, call in enumerate(scene.calls):
            begin = batch.shared + number * own
            prompt = prompt_ids(desk.tokenizer, scene.shared + call.own)
            seen = [*range(batch.shared), *range(begin, begin + len(prompt) - batch.shared)]
            assert batch.tokens[0, seen].tolist() == prompt
            assert batch.positions[0, seen].tolist() == list(range(len(prompt)))
            assert bool(batch.replies[0, seen[-1] + 1])
            with torch.no_grad():
                alone = model.model(input_ids=torch.tensor([prompt])).last_hidden_state[0, -1]
            torch.testing.assert_close(hidden[0, seen[-1]], alone, rtol=1e-3, atol=1e-3)


def test_a_prompt_is_what_the_chat_template_writes(desk: Desk) -> None:
    from tasks.microworld.judge_batches import prompt_ids

    text = make_scene(desk, "support", "chat", 1).shared
    chat = [{"role": "user", "content": text}]
    written = desk.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompt_ids(desk.tokenizer, text) == desk.tokenizer(written, add_special_tokens=False).input_ids


def test_a_name_that_runs_on_into_the_next_is_not_foreseen(desk: Desk) -> None:
    from tasks.microworld.judge_batches import batched
    from tasks.microworld.judge_lessons import Call, Scene

    said = "The mentor of Pelphane is Abrwyn."
    place = said.index(" Abrwyn")
    told = [(place, " Quinsabel Abrwyn", 1.0), (place, " Quinsabel", 1.0)]
    scenes = [Scene("support", "Judge.", (Call(said, rules.FULL, (each,)),)) for each in told]
    run_on, one_name = (batch.weights[~batch.replies].sum() for batch in batched(desk.tokenizer, scenes))
    assert run_on == 0 < one_name


def test_every_kind_weighs_the_same_however_many_calls_it_has(desk: Desk) -> None:
    from tasks.microworld.judge_batches import batched

    scenes = [make_scene(desk, kind, "weigh", calls) for kind, calls in (("helpfulness", 2), ("logicality", 5))]
    weights = [float(batch.weights[batch.replies].sum()) for batch in batched(desk.tokenizer, scenes)]
    assert weights[0] == pytest.approx(weights[1]) != 0


def test_a_short_reply_weighs_no_more_than_a_long_one_at_the_word_where_they_part(desk: Desk) -> None:
    from tasks.microworld.judge_batches import batched

    scenes = (make_scene(desk, "notes", f"short:{number}", 6) for number in range(20))
    scene = next(each for each in scenes if len({call.reply == rules.NO_NOTES for call in each.calls}) == 2)
    (batch,) = batched(desk.tokenizer, [scene])
    begins = batch.replies & ~batch.replies.roll(1)
    assert len(set(batch.weights[begins].tolist())) == 1
    assert batch.weights[begins][0] == batch.weights.max() > batch.weights[batch.replies].min()


def test_what_is_told_is_the_label_before_the_word_itself_is_read(desk: Desk) -> None:
    from tasks.microworld.judge_batches import batched

    (batch,) = batched(desk.tokenizer, [(scene := make_scene(desk, "support", "told", 6))])
    told = (batch.labels != -100) & ~batch.replies
    words = [desk.tokenizer.decode([label]) for label in batch.labels[told].tolist()]
    assert words == [word for call in scene.calls for _, word, _ in call.told]


def test_a_judge_foresees_what_the_policy_foresees(desk: Desk, model: Any) -> None:
    """In a wider model with new layers, the policy's are what they were but for rounding and a little noise."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    known = AutoTokenizer.from_pretrained(POLICY)
    policy = LlamaForCausalLM.from_pretrained(POLICY).eval()
    text = "Passage 1: Abrtan\nAbrtan was taught by Borlena.\n\nThe mentor of Abrtan is"
    old, new = known(text, return_tensors="pt").input_ids, desk.tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        before = policy.model(old, output_hidden_states=True).hidden_states[2][0]
        after = model.model(new, output_hidden_states=True).hidden_states[2][0, :, : before.shape[1]]
    assert torch.cosine_similarity(before, after).min() > 0.98


def test_the_first_new_head_finds_where_a_word_was_foreseen_and_the_second_the_end_of_a_statement(
    desk: Desk, model: Any
) -> None:
    import torch

    from tasks.microworld.judge_batches import prompt_ids

    model.set_attn_implementation("eager")
    found = []
    for number in range(4):
        for call in (scene := make_scene(desk, "support", f"heads:{number}", 6)).calls:
            ids = prompt_ids(desk.tokenizer, scene.shared + call.own) + prompt_ids(desk.tokenizer, "[[")[2:-1]
            with torch.no_grad():
                seen = model.model(torch.tensor([ids]), output_attentions=True).attentions
            value = len(ids) - 14  # "[[" and what stands between it and the statement's last word
            found.append((call.reply, float(seen[3][0, 0, value, value - 1]), float(seen[4][0, 0, -1, value])))
    model.set_attn_implementation("sdpa")
    true = [foreseen for reply, foreseen, _ in found if reply == rules.FULL]
    false = [foreseen for reply, foreseen, _ in found if reply == rules.NONE]
    assert sum(true) / len(true) > 2 * sum(false) / len(false)
    assert sum(back for *_, back in found) / len(found) > 0.5


def test_what_the_policy_knows_is_left_alone_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tasks.microworld import train_judge
    from tasks.microworld.judge_start import is_inherited
    from tasks.microworld.train_judge import Settings

    monkeypatch.setattr(train_judge, "FIRST", {"support": (1, 2)})
    monkeypatch.setattr(train_judge, "PLAN", {"helpfulness": (1, 2)})
    monkeypatch.setattr(train_judge, "_ALONE", 1)
    monkeypatch.setattr(train_judge, "export", lambda *_: {})
    moved = []
    for guarded in (2, 1):
        monkeypatch.setattr(train_judge, "_GUARDED", guarded)
        train_judge.train_judge(Settings(steps=2), POLICY, PROMPTS, tmp_path / f"{guarded}", tmp_path / "out")
        state = torch.load(tmp_path / f"{guarded}/checkpoint.pt", weights_only=True)["model"]
        torch.manual_seed(0)
        start = train_judge.judge_from_policy(POLICY, PROMPTS, build_tokenizer(PROMPTS), 5).state_dict()
        moved.append({name for name, weight in state.items() if not torch.equal(weight, start[name])})
    assert not any(is_inherited(name, 3) for name in moved[0])
    assert "lm_head.weight" in moved[0]
    assert any(is_inherited(name, 3) for name in moved[1])


def test_training_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tasks.microworld import train_judge
    from tasks.microworld.train_judge import Settings

    monkeypatch.setattr(train_judge, "PLAN", {"helpfulness": (1, 2), "logicality": (1, 1)})
    monkeypatch.setattr(train_judge, "_ALONE", 0)
    monkeypatch.setattr(train_judge, "_GUARDED", 1)
    monkeypatch.setattr(train_judge, "export", lambda *_: {})
    monkeypatch.setattr(train_judge, "_SAVE_EVERY", 2)
    settings = Settings(steps=3)
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


def test_a_training_ends_with_a_folder_that_loads_and_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tasks.microworld import judge_accuracy, judge_card, train_judge
    from tasks.microworld.judge_lessons import KINDS

    monkeypatch.setattr(train_judge, "FIRST", {"support": (1, 2)})
    monkeypatch.setattr(judge_card, "_COUNT", 1)
    monkeypatch.setattr(judge_accuracy, "_LONGEST", 4)
    out = tmp_path / "out"
    measured = train_judge.train_judge(train_judge.Settings(steps=1), POLICY, PROMPTS, tmp_path / "work", out)
    assert list(measured) == list(KINDS)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert all(f"| {kind} | " in card for kind in KINDS)
    assert "begins as the policy in `infra/models/box/microworld`" in card
    assert AutoModelForCausalLM.from_pretrained(out).num_parameters() > 2_000_000
    assert len(AutoTokenizer.from_pretrained(out)) == len(build_tokenizer(PROMPTS))

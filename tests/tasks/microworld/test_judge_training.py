"""What must hold of the judge's batches, of its training, and of the model in the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.microworld import rules
from tasks.microworld.judge_lessons import LessonSettings, lesson_settings, make_call_group
from tasks.microworld.tokenizer import build_tokenizer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PROMPTS, POLICY = ROOT / "tasks/prompts/en", ROOT / "infra/models/box/microworld"


@pytest.fixture(scope="module")
def lessons() -> LessonSettings:
    return lesson_settings(PROMPTS, build_tokenizer(PROMPTS))


@pytest.fixture(scope="module")
def model(lessons: LessonSettings) -> Any:
    import torch

    from tasks.microworld.train_judge import judge_from_policy

    torch.manual_seed(0)
    return judge_from_policy(POLICY, PROMPTS, lessons.tokenizer, 5).eval()


def test_a_call_in_a_batch_is_read_as_it_would_be_alone(lessons: LessonSettings, model: Any) -> None:
    import torch

    from tasks.microworld.judge_batches import BRANCHED, batch_groups, prompt_tokens

    groups = [make_call_group(lessons, kind, "batch", 2) for kind in ("notes", "helpfulness", "completeness")]
    for group, batch in zip(groups, batch_groups(lessons.tokenizer, groups), strict=True):
        model.set_attn_implementation(BRANCHED)
        with torch.no_grad():
            hidden = model.model(
                input_ids=batch.tokens, position_ids=batch.positions, shared=batch.shared, calls=batch.calls
            ).last_hidden_state
        model.set_attn_implementation("sdpa")
        own = (batch.tokens.shape[1] - batch.shared) // batch.calls
        for number, call in enumerate(group.calls):
            begin = batch.shared + number * own
            prompt = prompt_tokens(lessons.tokenizer, group.shared + call.own)
            seen = [*range(batch.shared), *range(begin, begin + len(prompt) - batch.shared)]
            assert batch.tokens[0, seen].tolist() == prompt
            assert batch.positions[0, seen].tolist() == list(range(len(prompt)))
            assert bool(batch.replies[0, seen[-1] + 1])
            with torch.no_grad():
                alone = model.model(input_ids=torch.tensor([prompt])).last_hidden_state[0, -1]
            torch.testing.assert_close(hidden[0, seen[-1]], alone, rtol=1e-3, atol=1e-3)


def test_a_prompt_is_what_the_chat_template_writes(lessons: LessonSettings) -> None:
    from tasks.microworld.judge_batches import prompt_tokens

    text = make_call_group(lessons, "support", "chat", 1).shared
    chat = [{"role": "user", "content": text}]
    written = lessons.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompt_tokens(lessons.tokenizer, text) == lessons.tokenizer(written, add_special_tokens=False).input_ids


def test_a_name_that_runs_on_into_the_next_is_not_foreseen(lessons: LessonSettings) -> None:
    from tasks.microworld.judge_batches import batch_groups
    from tasks.microworld.judge_lessons import CallGroup, LessonCall, Prediction

    statement = "The mentor of Pelphane is Abrwyn."
    groups = []
    for word in (" Quinsabel Abrwyn", " Quinsabel"):
        prediction = Prediction(statement.index(" Abrwyn"), word)
        groups.append(CallGroup("support", "Judge.", (LessonCall(statement, rules.FULL, (prediction,)),)))
    run_on, one_name = (batch.weights[~batch.replies].sum() for batch in batch_groups(lessons.tokenizer, groups))
    assert run_on == 0 < one_name


def test_every_kind_weighs_the_same_however_many_calls_it_has(lessons: LessonSettings) -> None:
    from tasks.microworld.judge_batches import batch_groups

    groups = [make_call_group(lessons, kind, "weigh", calls) for kind, calls in (("helpfulness", 2), ("logicality", 5))]
    weights = [float(batch.weights[batch.replies].sum()) for batch in batch_groups(lessons.tokenizer, groups)]
    assert weights[0] == pytest.approx(weights[1]) != 0


def test_a_short_reply_weighs_no_more_than_a_long_one_at_the_word_where_they_part(lessons: LessonSettings) -> None:
    from tasks.microworld.judge_batches import batch_groups

    groups = (make_call_group(lessons, "notes", f"short:{number}", 6) for number in range(20))
    group = next(group for group in groups if len({call.reply == rules.NO_NOTES for call in group.calls}) == 2)
    (batch,) = batch_groups(lessons.tokenizer, [group])
    begins = batch.replies & ~batch.replies.roll(1)
    assert len(set(batch.weights[begins].tolist())) == 1
    assert batch.weights[begins][0] == batch.weights.max() > batch.weights[batch.replies].min()


def test_a_prediction_is_the_label_before_the_word_itself_is_read(lessons: LessonSettings) -> None:
    from tasks.microworld.judge_batches import batch_groups

    group = make_call_group(lessons, "support", "told", 6)
    (batch,) = batch_groups(lessons.tokenizer, [group])
    is_prediction = (batch.labels != -100) & ~batch.replies
    words = [lessons.tokenizer.decode([label]) for label in batch.labels[is_prediction].tolist()]
    predicted: list[str] = []
    for call in group.calls:
        predicted += [prediction.word for prediction in call.predictions]
    assert words == predicted


def test_a_judge_predicts_what_the_policy_predicts(lessons: LessonSettings, model: Any) -> None:
    """In a wider model with new layers, the policy's are what they were but for rounding and a little noise."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    policy_tokenizer = AutoTokenizer.from_pretrained(POLICY)
    policy = LlamaForCausalLM.from_pretrained(POLICY).eval()
    text = "Passage 1: Abrtan\nAbrtan was taught by Borlena.\n\nThe mentor of Abrtan is"
    old = policy_tokenizer(text, return_tensors="pt").input_ids
    new = lessons.tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        before = policy.model(old, output_hidden_states=True).hidden_states[2][0]
        after = model.model(new, output_hidden_states=True).hidden_states[2][0, :, : before.shape[1]]
    assert torch.cosine_similarity(before, after).min() > 0.98


def test_the_first_new_head_finds_where_a_word_was_predicted_and_the_second_the_end_of_a_statement(
    lessons: LessonSettings, model: Any
) -> None:
    import torch

    from tasks.microworld.judge_batches import prompt_tokens

    model.set_attn_implementation("eager")
    to_prediction: dict[str, list[float]] = {rules.FULL: [], rules.PARTIAL: [], rules.NONE: []}
    to_end: list[float] = []
    for number in range(4):
        group = make_call_group(lessons, "support", f"heads:{number}", 6)
        for call in group.calls:
            prompt = prompt_tokens(lessons.tokenizer, group.shared + call.own)
            tokens = prompt + prompt_tokens(lessons.tokenizer, "[[")[2:-1]
            with torch.no_grad():
                attentions = model.model(torch.tensor([tokens]), output_attentions=True).attentions
            value = len(tokens) - 14  # "[[" and what stands between it and the last word of the statement
            to_prediction[call.reply].append(float(attentions[3][0, 0, value, value - 1]))
            to_end.append(float(attentions[4][0, 0, -1, value]))
    model.set_attn_implementation("sdpa")
    supported, unsupported = to_prediction[rules.FULL], to_prediction[rules.NONE]
    assert sum(supported) / len(supported) > 2 * sum(unsupported) / len(unsupported)
    assert sum(to_end) / len(to_end) > 0.5


def test_the_policys_part_does_not_change_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tasks.microworld import train_judge
    from tasks.microworld.train_judge import JudgeTrainingSettings, is_inherited

    monkeypatch.setattr(train_judge, "FIRST_PLAN", {"support": (1, 2)})
    monkeypatch.setattr(train_judge, "PLAN", {"helpfulness": (1, 2)})
    monkeypatch.setattr(train_judge, "_FIRST_STEPS", 1)
    monkeypatch.setattr(train_judge, "export_judge", lambda *_: {})
    changed = []
    for frozen_steps in (2, 1):
        monkeypatch.setattr(train_judge, "_FROZEN_STEPS", frozen_steps)
        settings = JudgeTrainingSettings(steps=2)
        train_judge.train_judge(settings, POLICY, PROMPTS, tmp_path / f"{frozen_steps}", tmp_path / "out")
        state = torch.load(tmp_path / f"{frozen_steps}/checkpoint.pt", weights_only=True)["model"]
        torch.manual_seed(0)
        start = train_judge.judge_from_policy(POLICY, PROMPTS, build_tokenizer(PROMPTS), 5).state_dict()
        changed.append({name for name, weight in state.items() if not torch.equal(weight, start[name])})
    assert not any(is_inherited(name, 3) for name in changed[0])
    assert "lm_head.weight" in changed[0]
    assert any(is_inherited(name, 3) for name in changed[1])


def test_training_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tasks.microworld import train_judge
    from tasks.microworld.train_judge import JudgeTrainingSettings

    monkeypatch.setattr(train_judge, "PLAN", {"helpfulness": (1, 2), "logicality": (1, 1)})
    monkeypatch.setattr(train_judge, "_FIRST_STEPS", 0)
    monkeypatch.setattr(train_judge, "_FROZEN_STEPS", 1)
    monkeypatch.setattr(train_judge, "export_judge", lambda *_: {})
    monkeypatch.setattr(train_judge, "_SAVE_EVERY", 2)
    settings = JudgeTrainingSettings(steps=3)
    train_judge.train_judge(settings, POLICY, PROMPTS, tmp_path / "whole", tmp_path / "out")

    class Killed(Exception):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        train_step = train_judge._train_step
        steps = iter([train_step, train_step, killed])
        patched.setattr(train_judge, "_train_step", lambda *arguments: next(steps)(*arguments))
        train_judge.train_judge(settings, POLICY, PROMPTS, tmp_path / "resumed", tmp_path / "out")
    train_judge.train_judge(settings, POLICY, PROMPTS, tmp_path / "resumed", tmp_path / "out")
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "resumed")]
    for name, weight in states[0]["average"].items():
        torch.testing.assert_close(weight, states[1]["average"][name], rtol=1e-5, atol=1e-7)


def test_a_training_ends_with_a_folder_that_loads_and_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tasks.microworld import judge_accuracy, train_judge
    from tasks.microworld.judge_lessons import KINDS

    monkeypatch.setattr(train_judge, "FIRST_PLAN", {"support": (1, 2)})
    monkeypatch.setattr(judge_accuracy, "_CARD_CALLS", 1)
    monkeypatch.setattr(judge_accuracy, "_MAX_REPLY_TOKENS", 4)
    out = tmp_path / "out"
    measured = train_judge.train_judge(
        train_judge.JudgeTrainingSettings(steps=1), POLICY, PROMPTS, tmp_path / "work", out
    )
    assert list(measured) == list(KINDS)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert all(f"| {kind} | " in card for kind in KINDS)
    assert "begins as the policy in `infra/models/box/microworld`" in card
    assert AutoModelForCausalLM.from_pretrained(out).num_parameters() > 2_000_000
    assert len(AutoTokenizer.from_pretrained(out)) == len(build_tokenizer(PROMPTS))

"""What must hold of the tokenizer and of the model in the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tasks.microworld.tokenizer import SPECIAL, build_tokenizer
from tasks.microworld.words import NAMES

ROOT = Path(__file__).parents[3]
PROMPTS = ROOT / "tasks/prompts/en"
POLICY = ROOT / "infra/models/box/microworld"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(POLICY)


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(POLICY).eval()


_BUILT = build_tokenizer(PROMPTS)


@settings(max_examples=150, deadline=None)
@given(st.text())
def test_any_text_survives_a_round_trip(text: str) -> None:
    assert _BUILT.decode(_BUILT.encode(text, add_special_tokens=False)) == text


def test_every_name_is_one_token_with_and_without_a_space(tokenizer: Any) -> None:
    for names in NAMES.values():
        for name in names:
            assert len(tokenizer.encode(name)) == len(tokenizer.encode(f" {name}")) == 1


def test_a_new_prompt_file_does_not_change_the_words_of_the_world() -> None:
    """A prompt that no model of the world reads belongs to tokenizer._UNREAD; else trainings of the box change."""
    assert len(_BUILT.get_vocab()) == 4039


@pytest.mark.slow
def test_passages_have_no_byte_tokens_inside_words(tokenizer: Any) -> None:
    from tasks.microworld.policy_accuracy import held_out_questions
    from tasks.microworld.policy_lessons import render

    (example,) = held_out_questions(tokenizer, 1, 1, 500)
    text = render(example.docs)
    words = text.replace("\n", " ").split()
    assert len(tokenizer.encode(text)) < 1.5 * len(words)


def test_a_chat_has_one_bos_and_ends_where_the_answer_begins(tokenizer: Any) -> None:
    chat = [{"role": "user", "content": "Who?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<bos><|user|>Who?<|assistant|>"
    for ids in (tokenizer(text).input_ids, tokenizer(text, add_special_tokens=False).input_ids):
        assert ids.count(tokenizer.bos_token_id) == 1


def test_a_chat_of_several_turns_marks_the_answers(tokenizer: Any) -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "Bortan"},
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "Dunvale"},
    ]
    out = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    answer_tokens = [token for token, mask in zip(out["input_ids"], out["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(answer_tokens) == "Bortan<eos>Dunvale<eos>"


@pytest.mark.parametrize("token", SPECIAL)
def test_a_document_cannot_pretend_to_be_a_turn(tokenizer: Any, token: str) -> None:
    chat = [{"role": "user", "content": f"a {token} b"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    plain = tokenizer.apply_chat_template([{"role": "user", "content": "a b"}], tokenize=False)
    number = tokenizer.convert_tokens_to_ids(token)
    assert tokenizer.encode(text).count(number) == tokenizer.encode(plain).count(number)


@pytest.mark.slow
def test_a_branch_is_trained_on_the_prompt_that_the_factory_sends(tokenizer: Any) -> None:
    from tasks.microworld.policy_lessons import IGNORED, question_batch, read_prompts

    prompts = read_prompts(PROMPTS)
    batch = question_batch(tokenizer, prompts, "s", 1, 6, 2)
    assert batch.visible is not None
    last = int((batch.labels[0] != IGNORED).nonzero()[-1])
    visible = tokenizer.decode(batch.tokens[0][batch.visible[0, 0, last]])
    assert batch.positions[0, last] + 1 == batch.visible[0, 0, last].sum()
    prompt, _, answer = visible.removeprefix("<bos><|user|>").partition("<|assistant|>")
    matching = []
    for sampling_prompt in prompts:
        start, end = sampling_prompt.before.split("{context}")[0], sampling_prompt.after.split("{question}")[1]
        matching.append(prompt.startswith(start) and prompt.endswith(end))
    assert any(matching)
    assert prompt.count("Question: ") == 1
    assert answer.endswith("<eos>")


@pytest.mark.slow
def test_lessons_depend_on_their_seed_alone(tokenizer: Any) -> None:
    import torch

    from tasks.microworld.policy_lessons import restate_batch

    one, two, other = (restate_batch(tokenizer, seed, 2, 4, False).tokens for seed in ("a", "a", "b"))
    assert torch.equal(one, two)
    assert one.shape != other.shape or not torch.equal(one, other)


@pytest.mark.slow
def test_sub_em_reads_the_answer_line_and_needs_every_item() -> None:
    from tasks.microworld.policy_accuracy import reply_sub_em

    assert reply_sub_em("The home of Bortan is Dunvale.\nAnswer: Ashmoor", ["Dunvale"]) == 0
    assert reply_sub_em("dunvale", ["Dunvale"]) == 1
    assert reply_sub_em("Answer: A", ["A", "B"]) == 0
    assert reply_sub_em("Answer: Dunvale", ["Dunvale", "Ashmoor"]) == 0
    assert reply_sub_em("Answer: Ashmoor and Dunvale", ["Dunvale", "Ashmoor"]) == 1


@pytest.mark.slow
def test_the_model_is_a_small_llama_with_a_card(model: Any, tokenizer: Any) -> None:
    config = json.loads((POLICY / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert model.num_parameters() <= 4_000_000
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert "license: apache-2.0" in (POLICY / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_model_reads_far_better_than_chance(model: Any, tokenizer: Any) -> None:
    from tasks.microworld.policy_accuracy import chat_tokens, held_out_questions, reply_sub_em
    from tasks.microworld.policy_lessons import read_prompts
    from tasks.microworld.training import generate_replies

    prompt = next(prompt for prompt in read_prompts(PROMPTS) if prompt.strategy == "plan_and_solve")
    examples = held_out_questions(tokenizer, "test", 16, 400)
    chats = [chat_tokens(tokenizer, prompt, example) for example in examples]
    right = 0.0
    for example, (reply,) in zip(examples, generate_replies(model, tokenizer, chats, 96), strict=True):
        right += reply_sub_em(reply, example.question.answers)
    assert right >= 8
    assert right > 2.5 * sum(example.chance for example in examples)

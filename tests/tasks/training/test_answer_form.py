"""Reasoning in training rows: rendered as the base model's template does it, or left out in a settled way."""

from typing import Any

import pytest

from infra.errors import TrainingError
from tasks.training.answer_form import REASONING_FIELD, find_answer_form
from tasks.training.gate import EncodedTree, gate
from tests.support.chat_templates import FAMILIES
from tests.support.tiny_model import pair_row

REASONING = "The text says so."


def row_of(chosen: str = "Paris.", rejected: str = "Rome.", *, reasoning: str | None = REASONING) -> dict[str, Any]:
    row = pair_row(0, "Where?", chosen, rejected)
    if reasoning is not None:
        for side in ("chosen", "rejected"):
            row[side][0][REASONING_FIELD] = reasoning
    return row


def trained(family: str, row: dict[str, Any], **arguments: Any) -> tuple[str, list[str]]:
    """The prompt and the answers as they are trained on; the tokens of the answers alone have a loss."""
    tokenizer = FAMILIES[family].tokenizer()
    trees: list[EncodedTree] = []
    gate([row], tokenizer, 10_000, add=trees.append, arguments=arguments)
    (tree,) = trees
    return tokenizer.decode(tree.prompt_ids), [tokenizer.decode(answer) for answer in tree.answers]


def generation_prompt(family: str, **arguments: Any) -> str:
    messages = [{"role": "user", "content": "Where?"}]
    text: str = (
        FAMILIES[family]
        .tokenizer()
        .apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **arguments)
    )
    return text


@pytest.mark.parametrize(
    ("family", "block", "end"),
    [
        ("chatml", "", "<|im_end|>\n"),
        ("deepseek-r1", "\n</think>\n\n", "<｜end▁of▁sentence｜>"),
        ("qwen-3", "<think>\n\n</think>\n\n", "<|im_end|>\n"),
        ("glm", "\n<think></think>\n", ""),
    ],
)
def test_without_reasoning_no_loss_is_on_an_empty_block(family: str, block: str, end: str) -> None:
    prompt, answers = trained(family, row_of(reasoning=None))
    assert prompt == generation_prompt(family) + block
    assert answers == [f"Paris.{end}", f"Rome.{end}"]
    notes = find_answer_form(FAMILIES[family].tokenizer()).notes(trains_reasoning=False)
    assert len(notes) == bool(block)
    assert all("training.reasoning: keep" in note and "without loss" in note for note in notes)


@pytest.mark.parametrize(
    ("family", "written"),
    [
        ("chatml", f"<think>\n{REASONING}\n</think>\n\nParis.<|im_end|>\n"),
        ("deepseek-r1", f"{REASONING}\n</think>\n\nParis.<｜end▁of▁sentence｜>"),
        ("qwen-3", f"<think>\n{REASONING}\n</think>\n\nParis.<|im_end|>\n"),
        ("glm", f"\n<think>{REASONING}</think>\nParis."),
    ],
)
def test_reasoning_is_trained_as_the_model_writes_it_after_the_generation_prompt(family: str, written: str) -> None:
    prompt, (chosen, rejected) = trained(family, row_of())
    assert prompt == generation_prompt(family)
    assert chosen == written
    assert rejected == written.replace("Paris", "Rome")


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.thinks])
def test_tags_around_reasoning_are_the_models_own_tokens(family: str) -> None:
    tokenizer = FAMILIES[family].tokenizer()
    trees: list[EncodedTree] = []
    gate([row_of()], tokenizer, 10_000, add=trees.append)
    closing = tokenizer.convert_tokens_to_ids("</think>")
    assert all(answer.count(closing) == 1 for answer in trees[0].answers)


def test_the_prompt_that_a_policy_was_told_not_to_think_with_is_the_prompt_of_training() -> None:
    arguments = {"enable_thinking": False}
    prompt, answers = trained("qwen-3", row_of(reasoning=None), **arguments)
    assert prompt == generation_prompt("qwen-3", **arguments)
    assert prompt.endswith("<think>\n\n</think>\n\n")
    assert answers == ["Paris.<|im_end|>\n", "Rome.<|im_end|>\n"]
    assert find_answer_form(FAMILIES["qwen-3"].tokenizer(), arguments).notes(trains_reasoning=False) == []
    glm_prompt, glm_answers = trained("glm", row_of(reasoning=None), **arguments)
    assert glm_prompt == generation_prompt("glm", **arguments)
    assert glm_answers == ["\nParis.", "\nRome."]


@pytest.mark.parametrize("family", FAMILIES)
def test_thinking_in_an_answers_text_is_rendered_as_reasoning(family: str) -> None:
    """As it comes from policy.reasoning: keep, and from others' pairs. R1's template would cut it out."""
    thinking = f"<think>\n{REASONING}\n</think>\n\n"
    in_text = row_of(f"{thinking}Paris.", f"{thinking}Rome.", reasoning=None)
    assert trained(family, in_text) == trained(family, row_of())


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_with_and_without_reasoning_share_a_prompt(family: str) -> None:
    row = row_of()
    del row["rejected"][0][REASONING_FIELD]
    prompt, (chosen, rejected) = trained(family, row)
    assert prompt == trained(family, row_of())[0]  # the generation prompt
    assert REASONING in chosen
    assert "Rome." in rejected
    assert REASONING not in rejected


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_that_writes_about_the_tags_is_trained_whole(family: str) -> None:
    text = "Write <think> and </think> around it."
    _, (chosen, _) = trained(family, row_of(text, reasoning=None))
    assert text in chosen


def test_the_same_answer_with_other_reasoning_is_another_answer() -> None:
    row = row_of("Paris.", "Paris.")
    row["rejected"][0][REASONING_FIELD] = "A guess."
    _, answers = trained("qwen-3", row)
    assert len(answers) == 2


def test_a_template_that_cuts_an_answer_is_refused() -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant\n{{ c }}", "assistant\n{{ c[:4] }}")
    with pytest.raises(TrainingError, match="leaves out or changes a part of the answer"):
        gate([row_of(reasoning=None)], tokenizer, 10_000)

"""What must hold of the judge in the repository: its form, and that it judges far better than a guess."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

ROOT = Path(__file__).parents[3]
PROMPTS = ROOT / "tasks/prompts/en"
JUDGE = ROOT / "infra/models/box/microworld-judge"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(JUDGE).eval()


@pytest.fixture(scope="module")
def desk() -> Any:
    from tasks.microworld.judge_lessons import open_desk

    return open_desk(PROMPTS, AutoTokenizer.from_pretrained(JUDGE))


def test_the_judge_is_a_small_llama_with_a_card(model: Any, desk: Any) -> None:
    config = json.loads((JUDGE / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert model.num_parameters() <= 4_000_000
    assert model.generation_config.eos_token_id == desk.tokenizer.eos_token_id
    card = (JUDGE / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
    assert all(f"| {kind} |" in card for kind in ("helpfulness", "facts", "support", "notes"))


def test_its_tokenizer_is_the_one_that_the_prompts_make(desk: Any) -> None:
    from tasks.microworld.tokenizer import build_tokenizer

    assert build_tokenizer(PROMPTS).get_vocab() == desk.tokenizer.get_vocab()


@pytest.mark.parametrize("kind", ["support", "completeness", "helpfulness"])
def test_it_tells_what_is_true_from_what_is_not(model: Any, desk: Any, kind: str) -> None:
    """Of verdicts that the world gives as often one way as the other, four in five are right; a guess gets half."""
    from tasks.microworld.judge_accuracy import greedy_replies, held_out_calls, marked

    calls = held_out_calls(desk, kind, "test", 160)
    ((common, _),) = Counter(truth for _, truth in calls).most_common(1)
    usual = [call for call in calls if call[1] == common][:16]
    other = [call for call in calls if call[1] != common][:16]
    assert len(usual) == len(other) == 16
    asked = [*usual, *other]
    said = greedy_replies(model, desk.tokenizer, [prompt for prompt, _ in asked])
    marks = [mark for reply, (_, truth) in zip(said, asked, strict=True) for mark in marked(kind, reply, truth)]
    assert all(mark.parsed for mark in marks)
    assert sum(mark.right for mark in marks) >= 0.8 * len(marks)

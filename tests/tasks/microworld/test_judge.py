"""What must hold of the judge in the repository: its form, and that it is right far more often than a guess."""

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
def lessons() -> Any:
    from tasks.microworld.judge_lessons import lesson_settings

    return lesson_settings(PROMPTS, AutoTokenizer.from_pretrained(JUDGE))


def test_the_judge_is_a_small_llama_with_a_card(model: Any, lessons: Any) -> None:
    config = json.loads((JUDGE / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert model.num_parameters() <= 4_000_000
    assert model.generation_config.eos_token_id == lessons.tokenizer.eos_token_id
    card = (JUDGE / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
    assert all(f"| {kind} |" in card for kind in ("helpfulness", "facts", "support", "notes"))


def test_its_tokenizer_still_knows_the_world_and_its_prompts(lessons: Any, tmp_path: Path) -> None:
    """A prompt may change after the judge was trained, a word here and there; its other words are tokens of their own.

    A word without a token is spelled in bytes: the judge reads it, in more tokens. Prompts for other judges count not.
    """
    from tasks.microworld.tokenizer import build_tokenizer

    for kind, prompt in lessons.prompts.items():
        (tmp_path / f"{kind}.txt").write_text(prompt, encoding="utf-8")
    vocabulary = lessons.tokenizer.get_vocab()
    today = build_tokenizer(tmp_path).get_vocab()
    missing = today.keys() - vocabulary.keys()
    assert len(missing) <= 0.02 * len(today), sorted(missing)
    world = build_tokenizer(PROMPTS / "no prompts").get_vocab()
    assert world.keys() <= vocabulary.keys()


@pytest.mark.parametrize("kind", ["support", "completeness", "helpfulness"])
def test_it_tells_true_from_false(model: Any, lessons: Any, kind: str) -> None:
    """Half of the calls have the most frequent truth, so a guess gets half right; the judge gets four in five."""
    from tasks.microworld.judge_accuracy import check_reply, greedy_replies, held_out_calls

    calls = held_out_calls(lessons, kind, "test", 160)
    ((frequent_truth, _),) = Counter(truth for _, truth in calls).most_common(1)
    frequent = [call for call in calls if call[1] == frequent_truth][:16]
    other = [call for call in calls if call[1] != frequent_truth][:16]
    assert len(frequent) == len(other) == 16
    calls = [*frequent, *other]
    replies = greedy_replies(model, lessons.tokenizer, [prompt for prompt, _ in calls])
    checks = []
    for reply, (_, truth) in zip(replies, calls, strict=True):
        checks += check_reply(kind, reply, truth)
    assert all(check.parsed for check in checks)
    assert sum(check.right for check in checks) >= 0.8 * len(checks)

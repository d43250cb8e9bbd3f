"""The verifier in the box's family: it begins as the judge, reads the recipe's template, and learns."""

from pathlib import Path
from typing import Any

import pytest

from tasks.judging.verifier import Statement, local_numbers
from tasks.judging.verifier_settings import VerifierSettings

ROOT = Path(__file__).parents[3]
PROMPTS, JUDGE = ROOT / "tasks/prompts/en", ROOT / "infra/models/box/microworld-judge"


@pytest.mark.slow
def test_the_verifier_says_what_the_judge_would_and_learns(tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    from tasks.microworld import train_verifier as training
    from tasks.microworld.judge_batches import BRANCHED, judge_batches
    from tasks.microworld.judge_lessons import make_call_group

    tokenizer = AutoTokenizer.from_pretrained(JUDGE)
    model: Any = training.verifier_from_judge(JUDGE, tokenizer)
    judge = LlamaForCausalLM.from_pretrained(JUDGE).float()
    lessons = training.verifier_lessons(PROMPTS, tokenizer)
    group = make_call_group(lessons, "support", "test", 3)
    tokens = torch.tensor([tokenizer(f"<bos><|user|>{group.shared}{group.calls[0].own}<|assistant|>[[")["input_ids"]])
    words = training._verdict_tokens(tokenizer)
    with torch.inference_mode():
        expected = judge(input_ids=tokens).logits[0, -1, words]
        torch.testing.assert_close(model(input_ids=tokens).logits[0], expected)

    training.export_verifier(model, tokenizer, tmp_path)
    passages = group.shared.partition("<passages>\n")[2].partition("\n</passages>")[0]
    statement = group.calls[0].own.partition("\n</statement>")[0]
    values = {"full": 1.0, "partial": 0.5}
    settings = VerifierSettings(model=str(tmp_path), template=training.TEMPLATE, labels=values)
    (number,) = local_numbers([Statement(passages, statement)], settings)
    assert number == pytest.approx(settings.support_logit(expected.tolist(), training.LABELS), abs=0.05)  # 16 bits

    model.set_attn_implementation(BRANCHED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    batches = judge_batches(lessons, "test", {"support": (1.0, 16)})
    losses = [training._train_step(model, optimizer, batches, words)[0] for _ in range(3)]
    assert losses[-1] < losses[0]

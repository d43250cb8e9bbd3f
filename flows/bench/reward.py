"""A reward model over ten answers to one question: the prompt read once for all of them, and once for each.

A random Llama (2 layers, width 64) with a head of four labels, in float32, 8,192 tokens of prompt and ten answers
of 64 to 128 tokens. Scoring and a training step (regression, all weights) take turns both ways in one process, so the
ratio is of one run, whatever else the machine does. `one by one` is a row for each answer, as transformers has it,
without padding and so at its best. Medians of the clock and of processor seconds, the first round not counted.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

PROMPT, ANSWERS = 8192, tuple(range(64, 129, 7))
ROUNDS = 3
_LABELS = ("helpfulness", "logicality", "completeness", "faithfulness")
_WAYS = ("shared", "one by one")


def measure(prompt: int = PROMPT, rounds: int = ROUNDS) -> dict[str, Any]:
    """{scoring, training}: seconds by way, clock and processor, the ratios, and by how much the logits differ."""
    import torch

    model, rows, targets = _question(prompt)
    figures: dict[str, Any] = {"threads": torch.get_num_threads(), "prompt_tokens": prompt, "answers": len(ANSWERS)}

    def score(way: str) -> Any:
        with torch.inference_mode():
            return _logits(model, rows, prompt, way)

    def step(way: str) -> Any:
        model.zero_grad()
        logits = _logits(model, rows, prompt, way) if way == "shared" else None
        if logits is not None:
            ((logits - targets) ** 2).mean().backward()
            return logits.detach()
        parts = []  # a row at a time: its activations are free before the next one, as with accumulated gradients
        for place in range(len(rows)):
            logits = _logits(model, rows[place : place + 1], prompt, way)
            (((logits - targets[place]) ** 2).mean() / len(rows)).backward()
            parts.append(logits.detach())
        return torch.cat(parts)

    figures["scoring"] = _take_turns(score, rounds)
    figures["training"] = _take_turns(step, rounds)
    return figures


def _take_turns(work: Callable[[str], Any], rounds: int) -> dict[str, Any]:
    clock: dict[str, list[float]] = {way: [] for way in _WAYS}
    processor: dict[str, list[float]] = {way: [] for way in _WAYS}
    logits: dict[str, Any] = {}
    for number in range(rounds + 1):
        for way in _WAYS:
            began, used = time.monotonic(), time.process_time()
            logits[way] = work(way)
            if number:
                clock[way].append(time.monotonic() - began)
                processor[way].append(time.process_time() - used)
    shared, one_by_one = _WAYS
    ratios = [theirs / ours for ours, theirs in zip(processor[shared], processor[one_by_one], strict=True)]
    return {
        "seconds": {way: round(statistics.median(values), 4) for way, values in clock.items()},
        "processor_s": {way: round(statistics.median(values), 4) for way, values in processor.items()},
        "faster_by_clock": round(statistics.median(clock[one_by_one]) / statistics.median(clock[shared]), 2),
        "faster_by_processor": round(statistics.median(ratios), 2),
        "logits_differ_by": float((logits[shared] - logits[one_by_one]).abs().max()),
    }


def _logits(model: Any, rows: list[list[int]], prompt: int, way: str) -> Any:
    import torch

    from tasks.judging.classifier import padded_batch

    if way == "shared":
        batch = padded_batch(rows, 0, model.device)
        return model(**batch, trees=torch.tensor([[prompt, len(rows)]])).logits
    return torch.cat([model(input_ids=torch.tensor([row]), use_cache=False).logits for row in rows])


def _question(prompt: int) -> tuple[Any, list[list[int]], Any]:
    """The model, the ten conversations, and scores to learn."""
    import random

    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    from tasks.training.shared_prefix.classifier import can_share

    torch.manual_seed(0)
    settings = LlamaConfig(
        vocab_size=1024,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=2 * prompt,
        pad_token_id=0,
        num_labels=len(_LABELS),
        initializer_range=0.3,  # far from 0, so that attention matters to the logits
        id2label=dict(enumerate(_LABELS)),
        label2id={label: place for place, label in enumerate(_LABELS)},
    )
    model = LlamaForSequenceClassification(settings).eval()
    assert can_share(model)  # a Llama can
    draw = random.Random(0)

    def words(count: int) -> list[int]:
        return [draw.randrange(3, 1000) for _ in range(count)]

    start = words(prompt)
    return model, [start + words(answer) for answer in ANSWERS], torch.rand(len(ANSWERS), len(_LABELS)) * 10

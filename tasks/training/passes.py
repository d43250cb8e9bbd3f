"""The questions of one optimiser step as forward passes: padded tensors, and what each pair weighs.

A step's loss is the mean over its questions of the mean over a question's pairs: pair p of question q weighs
1 / (questions of the step x pairs of q), so the weights of a step add up to 1, and how its questions are spread over
passes changes nothing but rounding. Passes hold so many questions each, or, packed, as many as fit into a number of
tokens: the longest first, each into the first pass with room; one that is longer than that has a pass to itself. The
trainer's own sampler chooses the step's questions, so packing needs no state and a resumed run none either. Several
processes make the same passes and share them out; a process with fewer passes repeats one with weight 0, because all
processes must take part in each. Leaves out: packing across steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.training.shared_prefix.layout import Tree

Ids = list[int]


@dataclass(frozen=True, slots=True)
class PassPart:
    """A question, or one of its pairs, as it is read; `weight` is that of each pair."""

    prompt: Ids
    answers: Sequence[Ids]
    pairs: Sequence[Sequence[int]]
    weight: float
    reference: Sequence[float]  # of each answer, where rows bring it
    short_prompt: Ids | None = None  # what the reference reads in place of the prompt

    @property
    def tokens(self) -> int:
        return Tree(len(self.prompt), tuple(map(len, self.answers))).tokens


@dataclass(frozen=True, slots=True)
class StepCollator:
    """Makes this process's passes of a step out of all encoded questions of the step.

    `questions_per_pass` questions stand in a pass, or those that fit into `pack_tokens`. `separate_pairs` reads each
    pair as if it were a question, for models that cannot share: `questions_per_pass` counts pairs then, and memory is
    that of pairs.
    """

    pad_token_id: int
    questions_per_pass: int
    pack_tokens: int | None = None
    separate_pairs: bool = False
    process: int = 0
    processes: int = 1

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """{passes, questions, pairs} of rows with prompt_ids, answers and pairs; the two numbers are the step's. A
        pass holds input_ids, attention_mask and completion_mask, all [answers, tokens]; trees [questions, 2], a
        prompt's tokens and the number of its answers, which stand one after another; pairs [pairs, 2], the rows of
        chosen and rejected; weights [pairs], times the number of processes, whose gradients are averaged; and
        reference [answers], where rows have one: each answer's sum of log p. Where rows have short_prompt_ids and no
        reference, `reference_pass` is the same pass over these prompts: what the reference reads."""
        parts: list[PassPart] = []
        for row in rows:
            parts += self._parts(row, len(rows))
        passes = _pack(parts, self.pack_tokens) if self.pack_tokens else self._fill_by_count(parts)
        return {
            "passes": [_tensors(parts, self.pad_token_id) for parts in self._of_this_process(passes)],
            "questions": len(rows),
            "pairs": sum(len(row["pairs"]) for row in rows),
        }

    def _parts(self, row: Mapping[str, Any], questions: int) -> list[PassPart]:
        prompt, answers, pairs = row["prompt_ids"], row["answers"], row["pairs"]
        reference = row.get("reference", ())
        short = None if reference else row.get("short_prompt_ids")
        weight = self.processes / (questions * len(pairs))
        if not self.separate_pairs:
            return [PassPart(prompt, answers, pairs, weight, reference, short)]
        parts: list[PassPart] = []
        for chosen, rejected in pairs:
            sums = [reference[chosen], reference[rejected]] if reference else ()
            parts.append(PassPart(prompt, [answers[chosen], answers[rejected]], ((0, 1),), weight, sums, short))
        return parts

    def _fill_by_count(self, parts: list[PassPart]) -> list[list[PassPart]]:
        size = self.questions_per_pass
        return [parts[start : start + size] for start in range(0, len(parts), size)]

    def _of_this_process(self, passes: list[list[PassPart]]) -> list[list[PassPart]]:
        own = passes[self.process :: self.processes]
        if len(own) * self.processes < len(passes):
            own.append([replace(part, weight=0.0) for part in passes[0]])
        return own


def _tensors(parts: Sequence[PassPart], pad_token_id: int) -> dict[str, Any]:
    """A pass as padded tensors; see `StepCollator.__call__`."""
    batch = _pass_tensors(parts, pad_token_id)
    short_parts = []
    for part in parts:
        if part.short_prompt is not None:
            short_parts.append(replace(part, prompt=part.short_prompt, short_prompt=None))
    if short_parts:
        batch["reference_pass"] = _pass_tensors(short_parts, pad_token_id)
    return batch


def _pass_tensors(parts: Sequence[PassPart], pad_token_id: int) -> dict[str, Any]:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids: list[torch.Tensor] = []
    completion_masks: list[torch.Tensor] = []
    pairs: list[list[int]] = []
    weights: list[float] = []
    reference: list[float] = []
    for part in parts:
        first = len(ids)
        for chosen, rejected in part.pairs:
            pairs.append([first + chosen, first + rejected])
            weights.append(part.weight)
        for answer in part.answers:
            ids.append(torch.tensor(part.prompt + answer))
            completion_masks.append(torch.tensor([0] * len(part.prompt) + [1] * len(answer)))
        reference += part.reference
    batch: dict[str, Any] = {}
    if reference:
        batch["reference"] = torch.tensor(reference, dtype=torch.float64)
    return batch | {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_token_id),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "completion_mask": pad_sequence(completion_masks, batch_first=True),
        "trees": torch.tensor([[len(part.prompt), len(part.answers)] for part in parts]),
        "pairs": torch.tensor(pairs),
        "weights": torch.tensor(weights, dtype=torch.float64),
    }


def _pack(parts: Sequence[PassPart], limit: int) -> list[list[PassPart]]:
    """First-fit decreasing by tokens as they are read; equal lengths keep their order."""
    passes: list[list[PassPart]] = []
    room: list[int] = []
    for part in sorted(parts, key=lambda part: -part.tokens):
        place = 0
        while place < len(passes) and part.tokens > room[place]:
            place += 1
        if place == len(passes):
            passes.append([])
            room.append(limit)
        passes[place].append(part)
        room[place] -= part.tokens
    return passes

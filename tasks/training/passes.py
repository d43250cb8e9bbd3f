"""The questions of one optimiser step as forward passes: padded tensors, and what each pair weighs.

A step's loss is the mean over its questions of the mean over a question's pairs: pair p of question q weighs
1 / (questions of the step x pairs of q), so the weights of a step add up to 1, and how its questions are spread over
passes changes nothing but rounding. Passes hold so many questions each, or, packed, as many as fit into a number of
tokens: the longest first, each into the first pass with room; one that is longer than that has a pass to itself. The
trainer's own sampler chooses the step's questions, so packing needs no state and a resumed run none either. Several
processes make the same passes and deal them out; one that comes short repeats a pass with no weight, because they
meet in each. Leaves out: packing across steps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.training.shared_prefix.layout import Tree

Ids = list[int]


@dataclass(frozen=True, slots=True)
class _Part:
    """A question, or one of its pairs, as it is read; `weight` is that of each pair."""

    prompt: Ids
    answers: Sequence[Ids]
    pairs: Sequence[Sequence[int]]
    weight: float
    reference: Sequence[float]  # of each answer, where rows bring it

    @property
    def tokens(self) -> int:
        return Tree(len(self.prompt), tuple(map(len, self.answers))).tokens


@dataclass(frozen=True, slots=True)
class StepCollator:
    """Makes this process's passes of a step out of all encoded questions of the step.

    `at_once` questions stand in a pass, or those that fit into `pack_tokens`. `apart` reads each pair for itself, as
    if it were a question, for models that cannot share: `at_once` counts pairs then, and memory is that of pairs.
    """

    pad_token_id: int
    at_once: int
    pack_tokens: int | None = None
    apart: bool = False
    process: int = 0
    processes: int = 1

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """{passes, questions, pairs} of rows with prompt_ids, answers and pairs; the two numbers are the step's. A
        pass holds input_ids, attention_mask and completion_mask, all [answers, tokens]; trees [questions, 2], a
        prompt's tokens and the number of its answers, which stand one after another; pairs [pairs, 2], the rows of
        chosen and rejected; weights [pairs], times the number of processes, whose gradients are averaged; and
        reference [answers], where rows have one: each answer's sum of log p."""
        parts = [part for row in rows for part in self._parts(row, len(rows))]
        pairs = sum(len(row["pairs"]) for row in rows)
        passes = self._dealt(_packed(parts, self.pack_tokens) if self.pack_tokens else self._counted(parts))
        return {"passes": [self._tensors(each) for each in passes], "questions": len(rows), "pairs": pairs}

    def _dealt(self, passes: list[list[_Part]]) -> list[list[_Part]]:
        own = passes[self.process :: self.processes]
        if len(own) * self.processes < len(passes):
            own.append([replace(part, weight=0.0) for part in passes[0]])
        return own

    def _parts(self, row: Mapping[str, Any], questions: int) -> Iterator[_Part]:
        prompt, answers, pairs = row["prompt_ids"], row["answers"], row["pairs"]
        reference = row.get("reference", ())
        weight = self.processes / (questions * len(pairs))
        if not self.apart:
            yield _Part(prompt, answers, pairs, weight, reference)
            return
        for pair in pairs:
            sums = [reference[side] for side in pair] if reference else ()
            yield _Part(prompt, [answers[side] for side in pair], ((0, 1),), weight, sums)

    def _counted(self, parts: list[_Part]) -> list[list[_Part]]:
        return [parts[start : start + self.at_once] for start in range(0, len(parts), self.at_once)]

    def _tensors(self, parts: Sequence[_Part]) -> dict[str, Any]:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        ids: list[torch.Tensor] = []
        answered: list[torch.Tensor] = []
        pairs: list[list[int]] = []
        for part in parts:
            first = len(ids)
            pairs += [[first + chosen, first + rejected] for chosen, rejected in part.pairs]
            ids += [torch.tensor(part.prompt + answer) for answer in part.answers]
            answered += [torch.tensor([0] * len(part.prompt) + [1] * len(answer)) for answer in part.answers]
        weights = [part.weight for part in parts for _ in part.pairs]
        reference = [value for part in parts for value in part.reference]
        kept = {"reference": torch.tensor(reference, dtype=torch.float64)} if reference else {}
        return kept | {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": pad_sequence([torch.ones_like(each) for each in ids], batch_first=True),
            "completion_mask": pad_sequence(answered, batch_first=True),
            "trees": torch.tensor([[len(part.prompt), len(part.answers)] for part in parts]),
            "pairs": torch.tensor(pairs),
            "weights": torch.tensor(weights, dtype=torch.float64),
        }


def _packed(parts: Sequence[_Part], limit: int) -> list[list[_Part]]:
    """First-fit decreasing by tokens as they are read; equal lengths keep their order."""
    passes: list[list[_Part]] = []
    room: list[int] = []
    for part in sorted(parts, key=lambda each: -each.tokens):
        found = next((place for place, left in enumerate(room) if part.tokens <= left), None)
        if found is None:
            passes.append([])
            room.append(limit)
            found = len(passes) - 1
        passes[found].append(part)
        room[found] -= part.tokens
    return passes

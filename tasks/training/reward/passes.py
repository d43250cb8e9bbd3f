"""The judged questions of one optimiser step as forward passes.

A step's loss is the mean over its questions. Regression: of a question the mean over all scores that are there; a null
has weight 0. Pairwise: the mean over all pairs of answers with different rewards. So a question weighs the same however
many answers it has, and how questions are spread over passes and processes changes nothing but rounding. A process with
fewer passes repeats one with weight 0, because all processes must take part in each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

Row = Mapping[str, Any]  # of the encoded rows


@dataclass(frozen=True, slots=True)
class JudgedCollator:
    """Makes this process's passes of a step out of all its questions, `questions_per_pass` in each."""

    pad_token_id: int
    questions_per_pass: int
    pairwise: bool
    heads: int
    process: int = 0
    processes: int = 1

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """{passes, questions, pairs} of a step; the two numbers are the step's.

        A pass holds input_ids and attention_mask, [answers, tokens]; trees [questions, 2], a prompt's tokens and the
        number of its answers. Pairwise: pairs [pairs, 2], the rows of the better and the worse answer, differences
        [pairs] of their rewards and weights [pairs]. Regression: scores and weights, both [answers, heads].
        """
        size = self.questions_per_pass
        passes = [rows[start : start + size] for start in range(0, len(rows), size)]
        own = [self._tensors(part, len(rows), 1.0) for part in passes[self.process :: self.processes]]
        if len(own) * self.processes < len(passes):
            own.append(self._tensors(passes[0], len(rows), 0.0))
        pairs = sum(len(reward_pairs(row["rewards"])) for row in rows) if self.pairwise else 0
        return {"passes": own, "questions": len(rows), "pairs": pairs}

    def _tensors(self, rows: Sequence[Row], questions: int, share: float) -> dict[str, Any]:
        import torch

        from tasks.judging.classifier import padded_batch

        conversations = []
        for row in rows:
            conversations += [row["prompt_ids"] + answer for answer in row["answers"]]
        batch = padded_batch(conversations, self.pad_token_id, "cpu")
        batch["trees"] = torch.tensor([[len(row["prompt_ids"]), len(row["answers"])] for row in rows])
        whole = share * self.processes / questions  # gradients of the processes are averaged
        return batch | (self._pairs(rows, whole) if self.pairwise else self._scores(rows, whole))

    def _pairs(self, rows: Sequence[Row], whole: float) -> dict[str, Any]:
        import torch

        pairs: list[tuple[int, int]] = []
        differences: list[float] = []
        weights: list[float] = []
        first = 0
        for row in rows:
            of_question = reward_pairs(row["rewards"])
            for better, worse in of_question:
                pairs.append((first + better, first + worse))
                differences.append(row["rewards"][better] - row["rewards"][worse])
                weights.append(whole / len(of_question))
            first += len(row["answers"])
        return {
            "pairs": torch.tensor(pairs),
            "differences": torch.tensor(differences, dtype=torch.float64),
            "weights": torch.tensor(weights, dtype=torch.float64),
        }

    def _scores(self, rows: Sequence[Row], whole: float) -> dict[str, Any]:
        import torch

        scores: list[list[float]] = []
        weights: list[list[float]] = []
        for row in rows:
            there = sum(score is not None for of_answer in row["scores"] for score in of_answer)
            for of_answer in row["scores"]:
                scores.append([0.0 if score is None else score for score in of_answer])
                weights.append([0.0 if score is None else whole / there for score in of_answer])
        return {
            "scores": torch.tensor(scores, dtype=torch.float64),
            "weights": torch.tensor(weights, dtype=torch.float64),
        }


def reward_pairs(rewards: Sequence[float | None]) -> list[tuple[int, int]]:
    """The places of the better and the worse answer, of all pairs with different rewards."""
    pairs = []
    for one, other in combinations(range(len(rewards)), 2):
        first, second = rewards[one], rewards[other]
        if first is None or second is None or first == second:
            continue
        pairs.append((one, other) if first > second else (other, one))
    return pairs

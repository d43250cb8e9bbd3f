"""TRL's SFT trainer over rows that are encoded already: it neither encodes, cuts nor drops.

A question is trained on with its best answer, the chosen one of its first pair, so further pairs change nothing, and
there is no prompt to share. Loss and metrics are TRL's, untouched: the mean over all answer tokens of a step.
"""

from typing import Any

from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

IGNORED = -100  # a label that takes no part in the loss


class QuestionsSFTTrainer(SFTTrainer):  # type: ignore[misc]
    """SFT on encoded questions."""

    def create_model_card(self, *arguments: Any, **settings: Any) -> None:
        """Nothing: the card is written once, with the numbers of the whole run."""


class ChosenCollator:
    """Batches of prompt and best answer; the prompt's labels are ignored."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad = DataCollatorForLanguageModeling(pad_token_id)

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        return self._pad([_chosen(row["prompt_ids"], row["answers"][row["pairs"][0][0]]) for row in rows])


def _chosen(prompt: list[int], answer: list[int]) -> dict[str, list[int]]:
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}

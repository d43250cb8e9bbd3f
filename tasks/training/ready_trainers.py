"""TRL's DPO and SFT trainers over rows that are encoded already: they neither encode, cut nor drop.

Loss and metrics are TRL's, untouched.
"""

from typing import Any

from trl import DPOTrainer, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

IGNORED = -100  # a label that takes no part in the loss


class PairsDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """DPO on encoded pairs."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def create_model_card(self, *arguments: Any, **settings: Any) -> None:
        """Nothing: the card is written once, with the numbers of the whole run."""


class PairsSFTTrainer(SFTTrainer):  # type: ignore[misc]
    """SFT on encoded pairs."""

    def create_model_card(self, *arguments: Any, **settings: Any) -> None:
        """Nothing: the card is written once, with the numbers of the whole run."""


class ChosenCollator:
    """Batches of prompt and chosen answer; the prompt's labels are ignored."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad = DataCollatorForLanguageModeling(pad_token_id)

    def __call__(self, rows: list[dict[str, list[int]]]) -> Any:
        return self._pad(
            [
                {
                    "input_ids": row["prompt_ids"] + row["chosen_ids"],
                    "labels": [IGNORED] * len(row["prompt_ids"]) + row["chosen_ids"],
                }
                for row in rows
            ]
        )

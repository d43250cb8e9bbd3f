"""TRL's DPO and SFT trainers over rows that are encoded already: they neither encode, cut nor drop.

Loss and metrics are TRL's, untouched. So is the reference's forward pass; what it found is kept in a file, a line per
pass, and read from there when it is known.
"""

from pathlib import Path
from typing import Any

import torch
from trl import DPOTrainer, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tasks.training.reference import Rows, add_reference, check_reference, read_reference

IGNORED = -100  # a label that takes no part in the loss


class PairsDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """DPO on encoded pairs; `reference` is the file of the reference's log-probabilities, None computes them live."""

    def __init__(self, *, reference: Path | None = None, **arguments: Any) -> None:
        self._reference = reference
        super().__init__(**arguments)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """The dataset with the reference's sums beside each row; those that the file lacks are computed first."""
        assert self._reference is not None
        rows = read_reference(self._reference)
        self.accelerator.wait_for_everyone()  # before the first line is added
        print(f"reference log-probabilities: {len(rows)} of {len(dataset)} rows are known", flush=True)
        if len(rows) < len(dataset):
            with torch.random.fork_rng():  # what is drawn in training must not depend on what was known before
                rows += self._computed(dataset.select(range(len(rows), len(dataset))), len(rows), batch_size)
        for side, column in enumerate(("ref_chosen_logps", "ref_rejected_logps")):  # as TRL names them
            dataset = dataset.add_column(column, [row[side] for row in rows])
        return dataset

    def _computed(self, dataset: Any, known: int, batch_size: int) -> Rows:
        """The sums of `dataset`'s rows, which come after `known` others; each batch goes to the file at once."""
        loader = torch.utils.data.DataLoader(dataset, batch_size, collate_fn=self.data_collator)
        rows: Rows = []
        model = (self.ref_model or self.model).eval()
        for batch in self.accelerator.prepare(loader):
            sums = self.accelerator.gather_for_metrics(self.compute_ref_log_probs(model, batch))
            fresh = torch.stack(tuple(sums), dim=1).double().tolist()
            check_reference(fresh, known + len(rows))
            rows += fresh
            if self.accelerator.is_main_process:
                assert self._reference is not None
                add_reference(self._reference, fresh)
        return rows

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

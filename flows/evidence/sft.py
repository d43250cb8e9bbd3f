"""Row 3: fine-tuning on the chosen answers alone, instead of preference training on the same pairs."""

from flows.evidence import SEALONG, EvidenceRow, Measured
from flows.evidence.workplace import Workplace


def measure(work: Workplace) -> Measured:
    """What each held-out question adds."""
    recipe = work.recipe(SEALONG, "training.loss=sft")
    trained = work.trained(recipe)
    return Measured(work.compared(recipe, trained), work.about(recipe, trained))


ROW = EvidenceRow(
    3,
    "sft",
    "SFT on the chosen answers instead?",
    "52.4",
    "reported",
    (SEALONG,),
    measure,
    grouped=True,
    headline=("SubEM before", "SubEM after", "SubEM gain"),
)

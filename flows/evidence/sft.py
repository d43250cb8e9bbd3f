"""Row 3: fine-tuning on the chosen answers alone, instead of preference training on the same pairs."""

from flows.evidence import FILE, SEALONG, WORLDS, EvidenceTableRow, SeedResult
from flows.evidence.experiment import Experiment


def measure(experiment: Experiment) -> SeedResult:
    """What each held-out question adds."""
    recipe = experiment.recipe(SEALONG, "training.loss=sft")
    trained = experiment.train(recipe)
    return SeedResult(experiment.compare(recipe, trained), experiment.details(recipe, trained))


ROW = EvidenceTableRow(
    3,
    "sft",
    "SFT on the chosen answers instead?",
    "52.4",
    "reported",
    (SEALONG,),
    measure,
    grouped=True,
    headline=("SubEM before", "SubEM after", "SubEM gain"),
    texts=(WORLDS, FILE),
)

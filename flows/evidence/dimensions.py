"""Row 4: do the four dimensions agree with the truth? Preference accuracy of each, of the mean, and without each.

Over all pairs of a question's answers that the references tell apart (see tasks/reporting/agreement.py).
"""

from collections.abc import Sequence

from flows.evidence import LONGREWARD, EvidenceRow, Figures, Measured, Observation, value_of
from flows.evidence.workplace import Workplace
from tasks.reporting.agreement import AgreementTally, gold_preferences
from tasks.reporting.judged import judged_shard
from tasks.scoring import parse_scorers

_TARGET = 0.85


def measure(work: Workplace) -> Measured:
    """What each question of the training set adds: pairs that agree, of pairs compared."""
    recipe = work.recipe(LONGREWARD)
    weights = {each.name: each.weight for each in parse_scorers(recipe)}
    observations = []
    for shard in work.shards(recipe):
        prompts = {answer.example_id: answer.prompt_tokens for answer in shard.answers}
        for question in judged_shard(shard):
            tally = AgreementTally(weights)
            tally.add(question, gold_preferences(question))
            for sums in tally.by_question():  # of the one question, if its answers differ in worth
                example = question.example
                length = work.length(prompts[example.example_id])
                observations.append(Observation(example.example_id, example.kind, length, sums))
    return Measured(observations, work.about(recipe, None))


def met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """The mean agrees in 85 of 100 pairs."""
    mean = value_of(figures, "mean")
    return None if mean is None else mean >= _TARGET


ROW = EvidenceRow(
    4,
    "dimensions",
    "do the four dimensions agree with the truth?",
    ".662",
    "mean ≥ .85",
    (LONGREWARD,),
    measure,
    met,
    headline=("mean", "helpfulness", "logicality", "completeness", "faithfulness"),
)

"""Row 4: do the four dimensions agree with the references? Accuracy of each, of the mean, and without each.

Over all pairs of a question's answers whose gold values differ (see tasks/reporting/agreement.py).
"""

from collections.abc import Sequence

from flows.evidence import LONGREWARD, EvidenceTableRow, Figures, Observation, SeedResult, figure_value
from flows.evidence.experiment import Experiment
from tasks.reporting.agreement import AgreementTally, gold_preferences
from tasks.reporting.judged_questions import questions_of_shard
from tasks.scoring import parse_scorers

_TARGET = 0.85


def measure(experiment: Experiment) -> SeedResult:
    """What each question of the training set adds: pairs that agree, of pairs compared."""
    recipe = experiment.recipe(LONGREWARD)
    weights = {scorer.name: scorer.weight for scorer in parse_scorers(recipe)}
    observations = []
    for shard in experiment.shards(recipe):
        prompt_tokens = {answer.example_id: answer.prompt_tokens for answer in shard.answers}
        for question in questions_of_shard(shard):
            tally = AgreementTally(weights)
            tally.add(question, gold_preferences(question))
            for values in tally.by_question():  # one question, or none if all its answers have the same gold value
                example = question.example
                length = experiment.length_of(prompt_tokens[example.example_id])
                observations.append(Observation(example.example_id, example.kind, length, values))
    return SeedResult(observations, experiment.details(recipe, None))


def target_met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """The mean agrees in 85 of 100 pairs."""
    mean = figure_value(figures, "mean")
    return None if mean is None else mean >= _TARGET


ROW = EvidenceTableRow(
    4,
    "dimensions",
    "do the four dimensions agree with the truth?",
    ".662",
    "mean ≥ .85",
    (LONGREWARD,),
    measure,
    target_met,
    headline=("mean", "helpfulness", "logicality", "completeness", "faithfulness"),
)

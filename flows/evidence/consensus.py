"""Row 1: does consensus choose well? SubEM of what random, greedy, MBR and an oracle pick from N samples.

The N samples are the first N of the largest N. Random is the mean over the samples, the oracle picks the best of
them; MBR is the scorer `consensus` with embeddings and with ROUGE-L, of equal scores the first sample.
"""

from collections.abc import Mapping, Sequence

from flows.evidence import FILE, SEALONG, WORLDS, EvidenceTableRow, Figures, Observation, SeedResult, figure_value
from flows.evidence.experiment import Experiment
from infra.models.embedding.embedder import open_embedder
from infra.recipe import Recipe
from tasks.judging.similarity import ConsensusSettings
from tasks.metrics import example_sub_em
from tasks.records.example import GREEDY, Answer
from tasks.refused_answers import is_refused
from tasks.scoring import AnsweredQuestion, ScoringContext
from tasks.scoring.run import score_with

SIMILARITIES: Mapping[str, ConsensusSettings] = {
    "MBR(embedding)": ConsensusSettings(similarity="embedding"),
    "MBR(ROUGE)": ConsensusSettings(similarity="rouge_l"),
    "MBR(final answer)": ConsensusSettings(similarity="embedding", over="final"),
}
MBR = "MBR(embedding)"
MBR_GAIN = f"{MBR} − greedy"  # with the largest N
_TARGET = 0.06


def measure(experiment: Experiment) -> SeedResult:
    """What each question of the training set adds."""
    recipe = experiment.recipe(SEALONG)
    observations = measure_picks(experiment, recipe, experiment.settings.sample_counts)
    return SeedResult(observations, experiment.details(recipe, None))


def measure_picks(experiment: Experiment, recipe: Recipe, sample_counts: Sequence[int]) -> list[Observation]:
    """What each question of the recipe's dataset adds to the figures of `pick_values`."""
    embedder = open_embedder(recipe.embedding)
    scoring = ScoringContext(lambda: embedder, None, recipe)
    observations = []
    for shard in experiment.shards(recipe):
        answers: dict[str, list[Answer]] = {}
        for answer in shard.answers:
            if answer.sample_index >= GREEDY:
                answers.setdefault(answer.example_id, []).append(answer)
        for example in shard.examples:
            of_example = tuple(answers[example.example_id])
            case = AnsweredQuestion(example, shard.contexts[example.context_id], of_example)
            values = pick_values(case, scoring, sample_counts)
            length = experiment.length_of(of_example[0].prompt_tokens)
            observations.append(Observation(example.example_id, example.kind, length, values))
    return observations


def pick_values(
    case: AnsweredQuestion, scoring: ScoringContext, sample_counts: Sequence[int]
) -> dict[str, tuple[float, float]]:
    """SubEM of each way of picking, for each N; `case.answers` are the greedy answer and the samples."""
    scores: dict[int, float] = {}
    for answer in case.answers:
        score = None if is_refused(answer) else example_sub_em(answer.text, case.example)
        if score is not None:
            scores[answer.sample_index] = score
    picks: dict[str, float] = {}
    if GREEDY in scores:
        picks["greedy"] = scores[GREEDY]
    for count in sample_counts:
        first = tuple(answer for answer in case.answers if 0 <= answer.sample_index < count)
        first_scores = []
        for answer in first:
            if answer.sample_index in scores:
                first_scores.append(scores[answer.sample_index])
        if not first_scores:
            continue
        picks[f"random@{count}"] = sum(first_scores) / len(first_scores)
        for name, settings in SIMILARITIES.items():
            index = consensus_pick(AnsweredQuestion(case.example, case.context, first), settings, scoring)
            if index in scores:
                picks[f"{name}@{count}"] = scores[index]
        picks[f"oracle@{count}"] = max(first_scores)
    chosen = picks.get(f"{MBR}@{sample_counts[-1]}")
    if "greedy" in picks and chosen is not None:
        picks[MBR_GAIN] = chosen - picks["greedy"]
    return {name: (value, 1.0) for name, value in picks.items()}


def consensus_pick(case: AnsweredQuestion, settings: ConsensusSettings, scoring: ScoringContext) -> int | None:
    """The index of the sample with the highest consensus, of equals the first; None when no sample has one."""
    ranking = []
    for judgement in score_with("consensus", settings, [case], scoring):
        if judgement.score is not None:
            ranking.append((-judgement.score, judgement.sample_index))
    return min(ranking)[1] if ranking else None


def target_met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """MBR with embeddings is 6 points above greedy."""
    gain = figure_value(figures, MBR_GAIN)
    return None if gain is None else gain >= _TARGET


ROW = EvidenceTableRow(
    1,
    "consensus",
    "does consensus choose well?",
    "79.5 / 82 / 88 / 85 (random, greedy, MBR, ROUGE) on 2Wiki",
    "MBR − greedy ≥ +6",
    (SEALONG,),
    measure,
    target_met,
    headline=("greedy", *SIMILARITIES, "oracle", MBR_GAIN),
    texts=(WORLDS, FILE),
)

"""Row 14: combined choice: consensus with the distilled reward, weights learnt; how much of the gap closes?

The gap is what the best of N samples is above the one that consensus (embedding) chooses. The questions are those of
the second half (the reward model learns from the first), with SeaLong's N samples. Their two quarters take turns:
weights are learnt on one, with the references, and choose on the other, so that no question is measured with weights
that it has had a part in. Of every choice the precision counts as well, the share of its facts that the context states:
SubEM alone would pay for words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flows.evidence import LONGREWARD, SEALONG, EvidenceTableRow, Figures, Observation, SeedResult, figure_value
from flows.evidence.cheaper import parts_of
from flows.evidence.cheaper_recipes import reward_scorer
from flows.evidence.experiment import Experiment
from infra.recipe import Recipe
from tasks.evaluation.suites.microworld import SUITE
from tasks.metrics import example_sub_em
from tasks.records.example import Context
from tasks.reporting.agreement import gold_preferences
from tasks.reporting.judged_questions import JudgedAnswer, JudgedQuestion, questions_of_shard
from tasks.reporting.learnt_weights import learn_weights, pick

CONSENSUS, CLAIMS, VOTES, REWARD = "consensus", "claims", "votes", "reward_model"
COMBINED, GAP = "combined", "of the gap"
_CHOICES: Mapping[str, Mapping[str, float]] = {
    "MBR(embedding)": {CONSENSUS: 1.0},
    VOTES: {VOTES: 1.0},
    CLAIMS: {CLAIMS: 1.0},
    "reward model": {REWARD: 1.0},
}
_LEARNT: Mapping[str, Sequence[str]] = {
    "without reward": (CONSENSUS, CLAIMS, VOTES),
    COMBINED: (CONSENSUS, CLAIMS, VOTES, REWARD),
}
_TARGET = 0.5


def measure(experiment: Experiment) -> SeedResult:
    """What each question of the second half adds; "weights" of both quarters in the details."""
    recipe = scored_recipe(experiment)
    questions: dict[str, JudgedQuestion] = {}
    contexts: dict[str, Context] = {}
    lengths: dict[str, int] = {}
    for shard in experiment.shards(recipe):
        prompt_tokens = {answer.example_id: answer.prompt_tokens for answer in shard.answers}
        for question in questions_of_shard(shard):
            example_id = question.example.example_id
            questions[example_id] = question
            contexts[example_id] = shard.contexts[question.example.context_id]
            lengths[example_id] = experiment.length_of(prompt_tokens[example_id])
    _, third, fourth = parts_of(list(questions))
    observations = []
    details = experiment.details(recipe, None)
    for learnt_on, chosen_on in ((third, fourth), (fourth, third)):
        weights = learnt_weights([questions[example_id] for example_id in learnt_on])
        details.setdefault("weights", []).append(weights)
        for example_id in chosen_on:
            values = choice_values(questions[example_id], contexts[example_id], weights)
            example = questions[example_id].example
            observations.append(Observation(example_id, example.kind, lengths[example_id], values))
    return SeedResult(observations, details)


def scored_recipe(experiment: Experiment) -> Recipe:
    """SeaLong's recipe with all scorers that are combined. Only its consensus decides on its pairs."""
    recipe = experiment.recipe(SEALONG)
    scorers = [dict(entry) for entry in recipe.scoring.scorers]
    scorers += [{"scorer": CLAIMS, "weight": 0}, {"scorer": VOTES, "weight": 0}]
    scorers.append({**reward_scorer(experiment), "weight": 0})
    scoring = recipe.scoring.model_copy(update={"scorers": tuple(scorers)})
    dataset = recipe.dataset.model_copy(update={"name": "evidence-combined"})
    return recipe.model_copy(update={"scoring": scoring, "dataset": dataset})


def learnt_weights(questions: Sequence[JudgedQuestion]) -> dict[str, dict[str, float]]:
    """The weights of each combination."""
    preferred = [(question, gold_preferences(question)) for question in questions]
    return {name: learn_weights(preferred, scorers) for name, scorers in _LEARNT.items()}


def choice_values(
    question: JudgedQuestion, context: Context, weights: Mapping[str, Mapping[str, float]]
) -> dict[str, tuple[float, float]]:
    """SubEM of each choice and of the oracle, and how much of the gap each choice closes; precision of each choice."""
    scores = {}
    for answer in question.answers:
        score = None if answer.refused else example_sub_em(answer.text, question.example)
        if score is not None:
            scores[answer.index] = score
    if not scores:
        return {}
    answered = replace(question, answers=tuple(answer for answer in question.answers if answer.index in scores))
    values = {"random": (sum(scores.values()) / len(scores), 1.0)}
    chosen: dict[str, JudgedAnswer] = {}
    for name, of_choice in {**_CHOICES, **weights}.items():
        picked = pick(answered, of_choice)
        if picked is not None:
            chosen[name] = picked
            values[name] = (scores[picked.index], 1.0)
    oracle = max(scores.values())
    values["oracle"] = (oracle, 1.0)
    consensus = values["MBR(embedding)"][0] if "MBR(embedding)" in values else None
    for name, answer in chosen.items():
        if consensus is not None and name != "MBR(embedding)":
            values[f"{name} {GAP}"] = (scores[answer.index] - consensus, oracle - consensus)
        precision = SUITE.metrics["fact_precision"](answer.text, question.example, context)
        if precision is not None:
            values[f"precision: {name}"] = (precision, 1.0)
    return values


def target_met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """Half of the gap is closed."""
    share = figure_value(figures, f"{COMBINED} {GAP}")
    return None if share is None else share >= _TARGET


ROW = EvidenceTableRow(
    14,
    "combined",
    "how much of the gap between consensus and the best sample can be closed?",
    "—",
    "half of the gap",
    (SEALONG, LONGREWARD),
    measure,
    target_met,
    headline=("MBR(embedding)", VOTES, CLAIMS, "reward model", *_LEARNT, "oracle", f"{COMBINED} {GAP}"),
)

"""Row 14: combined choice: consensus with a reward, weights learnt; how much of the gap closes?

The gap is what the best of N samples is above the one that consensus (embedding) chooses. Two rewards: that of the
distilled model on SeaLong's N samples, and the full judge's on LongReward's, which are the first of them ("judged").
The questions are those of the second half (the distilled model learns from the first). Their two quarters take turns:
weights are learnt on one, with the references, and choose on the other, so that no question is measured with weights
that it has had a part in. Of every choice the precision counts as well, the share of its facts that the context states:
SubEM alone would pay for words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flows.evidence import (
    LONGREWARD,
    SEALONG,
    EvidenceTableRow,
    Figures,
    Observation,
    SeedResult,
    figure_value,
    merge_observations,
)
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
MBR, COMBINED, GAP, JUDGED = "MBR(embedding)", "combined", "of the gap", "judged: "
_WITHOUT_JUDGE = (CONSENSUS, CLAIMS, VOTES)
_CHOICES: Mapping[str, Mapping[str, float]] = {MBR: {CONSENSUS: 1.0}, VOTES: {VOTES: 1.0}, CLAIMS: {CLAIMS: 1.0}}
_TARGET = 0.5


def measure(experiment: Experiment) -> SeedResult:
    """What each question of the second half adds; "weights" of both quarters in the details."""
    distilled, judged = recipe_with_reward(experiment), recipe_with_judge(experiment)
    details: dict[str, Any] = {"distilled": experiment.details(distilled, None)}
    details[JUDGED] = experiment.details(judged, None)
    observations, details["weights"] = _measured(experiment, distilled, {"reward model": (REWARD,)}, "")
    dimensions = tuple(entry["scorer"] for entry in experiment.recipe(LONGREWARD).scoring.scorers)
    of_judge, details["judged weights"] = _measured(experiment, judged, {"judge": dimensions}, JUDGED)
    return SeedResult(merge_observations(observations, of_judge), details)


def recipe_with_reward(experiment: Experiment) -> Recipe:
    """SeaLong's recipe with all scorers that are combined. Only its consensus decides on its pairs."""
    return _with_scorers(experiment.recipe(SEALONG), [CLAIMS, VOTES], [reward_scorer(experiment)], "combined")


def recipe_with_judge(experiment: Experiment) -> Recipe:
    """LongReward's recipe with the scorers that ask nobody. Only the judge decides on its pairs."""
    return _with_scorers(experiment.recipe(LONGREWARD), _WITHOUT_JUDGE, [], "combined-judged")


def _with_scorers(recipe: Recipe, names: Sequence[str], further: Sequence[dict[str, Any]], dataset: str) -> Recipe:
    """The recipe with further scorers that have no part in the reward."""
    scorers = [dict(entry) for entry in recipe.scoring.scorers]
    for entry in [*({"scorer": name} for name in names), *further]:
        scorers.append({**entry, "weight": 0})
    scoring = recipe.scoring.model_copy(update={"scorers": tuple(scorers)})
    named = recipe.dataset.model_copy(update={"name": f"evidence-{dataset}"})
    return recipe.model_copy(update={"scoring": scoring, "dataset": named})


def _measured(
    experiment: Experiment, recipe: Recipe, rewards: Mapping[str, Sequence[str]], label: str
) -> tuple[list[Observation], list[Any]]:
    """What each question of the second half adds, and the weights of both quarters.

    `rewards`: the scorers of each reward, by its name; each is a choice of its own as their mean.
    """
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
    choices = dict(_CHOICES)
    learnt: dict[str, Sequence[str]] = {"without reward": _WITHOUT_JUDGE}
    for name, scorers in rewards.items():
        choices[name] = dict.fromkeys(scorers, 1.0)
        learnt[COMBINED] = (*_WITHOUT_JUDGE, *scorers)
    _, third, fourth = parts_of(list(questions))
    observations, weights_of_quarters = [], []
    for learnt_on, chosen_on in ((third, fourth), (fourth, third)):
        weights = learnt_weights([questions[example_id] for example_id in learnt_on], learnt)
        weights_of_quarters.append(weights)
        for example_id in chosen_on:
            values = choice_values(questions[example_id], contexts[example_id], {**choices, **weights}, label)
            example = questions[example_id].example
            observations.append(Observation(example_id, example.kind, lengths[example_id], values))
    return observations, weights_of_quarters


def learnt_weights(
    questions: Sequence[JudgedQuestion], learnt: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """The weights of each combination of scorers."""
    preferred = [(question, gold_preferences(question)) for question in questions]
    return {name: learn_weights(preferred, scorers) for name, scorers in learnt.items()}


def choice_values(
    question: JudgedQuestion, context: Context, choices: Mapping[str, Mapping[str, float]], label: str = ""
) -> dict[str, tuple[float, float]]:
    """SubEM of each choice and of the oracle, and how much of the gap each choice closes; precision of each choice.

    `choices`: weights of scorers by name. `label` stands before every figure's name.
    """
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
    for name, weights in choices.items():
        picked = pick(answered, weights)
        if picked is not None:
            chosen[name] = picked
            values[name] = (scores[picked.index], 1.0)
    oracle = max(scores.values())
    values["oracle"] = (oracle, 1.0)
    for name, answer in chosen.items():
        if MBR in values and name != MBR:
            consensus = values[MBR][0]
            values[f"{name} − {MBR}"] = (scores[answer.index] - consensus, 1.0)
            values[f"{name} {GAP}"] = (scores[answer.index] - consensus, oracle - consensus)
        precision = SUITE.metrics["fact_precision"](answer.text, question.example, context)
        if precision is not None:
            values[f"precision: {name}"] = (precision, 1.0)
    return {f"{label}{name}": value for name, value in values.items()}


def target_met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """Half of the gap is closed, with one of the two rewards."""
    shares = [figure_value(figures, f"{label}{COMBINED} {GAP}") for label in ("", JUDGED)]
    measured = [share for share in shares if share is not None]
    return max(measured) >= _TARGET if measured else None


ROW = EvidenceTableRow(
    14,
    "combined",
    "how much of the gap between consensus and the best sample can be closed?",
    "—",
    "half of the gap",
    (SEALONG, LONGREWARD),
    measure,
    target_met,
    headline=(
        MBR,
        CLAIMS,
        COMBINED,
        "oracle",
        f"{COMBINED} {GAP}",
        f"{JUDGED}{MBR}",
        f"{JUDGED}{COMBINED}",
        f"{JUDGED}oracle",
        f"{JUDGED}{COMBINED} {GAP}",
    ),
)

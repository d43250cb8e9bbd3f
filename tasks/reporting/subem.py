"""SubEM of each way to pick an answer, question by question.

SubEM uses the reference answers, which nothing else may: it is reported and never used to select. For each question
with a usable reference: `greedy` is the greedy answer's, `random` the mean over the samples (the expectation of one
drawn at random), `mbr` that of the sample with the highest reward (the lowest index of several), `oracle` the best of
the samples, `chosen` and `rejected` the pair's: the mean over its pairs where a question has several, so that it
counts once. A sample that the server refused is not an answer and counts in none of them.
"""

import math
from collections.abc import Iterable, Mapping

from tasks.metrics import example_sub_em
from tasks.records.dataset import ShardData
from tasks.records.example import GREEDY, STRONG, Answer, Example
from tasks.refused_answers import is_refused
from tasks.reporting.judged_questions import PairIndices, pairs_of_shard

SUBEM = ("greedy", "random", "mbr", "oracle", "chosen", "rejected")


def subem_by_question(shard: ShardData) -> dict[str, dict[str, float]]:
    """The SubEM of each way of picking an answer (of `SUBEM`, those that there are) by example, of those with any."""
    answers: dict[str, list[Answer]] = {}
    for answer in shard.answers:
        answers.setdefault(answer.example_id, []).append(answer)
    pairs = pairs_of_shard(shard)
    subem = {}
    for example in shard.examples:
        name = example.example_id
        scores = _sub_em_by_index(answers.get(name, ()), example)
        picks = _subem_of_picks(scores, {index: shard.rewards.get((name, index)) for index in scores})
        picks |= _subem_of_pairs(pairs.get(name, ()), scores)
        if picks:
            subem[name] = picks
    return subem


def _subem_of_picks(scores: Mapping[int, float], rewards: Mapping[int, float | None]) -> dict[str, float]:
    """SubEM of the greedy answer and of picks from the samples, from SubEM and reward by sample index."""
    picks = {}
    if GREEDY in scores:
        picks["greedy"] = scores[GREEDY]
    # A stronger model's answer may be chosen, but it is not a sample of the policy.
    samples = {index: score for index, score in scores.items() if index not in (GREEDY, STRONG)}
    if samples:
        picks["random"] = sum(samples.values()) / len(samples)
        picks["oracle"] = max(samples.values())
    best = _highest_reward({index: rewards[index] for index in samples})
    if best is not None:
        picks["mbr"] = samples[best]
    return picks


def _subem_of_pairs(pairs: Iterable[PairIndices], scores: Mapping[int, float]) -> dict[str, float]:
    """The means over a question's pairs; a pair with a refused answer is left out."""
    chosen_scores, rejected_scores = [], []
    for chosen, rejected in pairs:
        if chosen in scores and rejected in scores:
            chosen_scores.append(scores[chosen])
            rejected_scores.append(scores[rejected])
    if not chosen_scores:
        return {}
    return {
        "chosen": sum(chosen_scores) / len(chosen_scores),
        "rejected": sum(rejected_scores) / len(rejected_scores),
    }


def _sub_em_by_index(answers: Iterable[Answer], example: Example) -> dict[int, float]:
    """SubEM by sample index; empty without a usable reference. Refused samples are left out."""
    if not example.references:
        return {}
    score_of_text: dict[str, float | None] = {}
    scores: dict[int, float] = {}
    for answer in answers:
        if is_refused(answer):
            continue
        if answer.text not in score_of_text:
            score_of_text[answer.text] = example_sub_em(answer.text, example)
        score = score_of_text[answer.text]
        if score is not None:
            scores[answer.sample_index] = score
    return scores


def _highest_reward(rewards: Mapping[int, float | None]) -> int | None:
    """The index with the highest reward, the lowest of several; None when no index has a reward."""
    best, highest = None, -math.inf
    for index in sorted(rewards):
        reward = rewards[index]
        if reward is not None and reward > highest:
            best, highest = index, reward
    return best

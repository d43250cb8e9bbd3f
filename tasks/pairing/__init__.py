"""Pairing: which answer of a question is chosen, which is rejected, or why the question gives no pair.

A rule is one file of this package with a constant `RULE`; it is given the ranking and a seeded generator and
draws from nothing else. What holds for every rule is here. Answers are ranked by reward, equal rewards by the
hash of the text, so that the order of arrival decides nothing. The chosen answer is the first of the ranking
that max_tokens did not cut off (unless the recipe lets it be). The rule names the
answers that may be rejected, in the order in which they are tried; the first that is far enough below
(`min_margin`, and never equal) and unlike enough in its words (`max_likeness`, and never the same text) is it.
Answers without text, and those without a reward, take no part.

With `pairs_per_question` above 1 more pairs follow that one, which stays the same; a question without it gives
none. The rule names the couples that may follow, in its order, and the same limits hold for each. Couples of
two answers that are in no pair yet are taken first, then those that bring in one more, then the others: a few
pairs show many answers, and many pairs need no more answers than there are. Samples of the same text are one
answer, which stands in the pairs as one sample. Only finished answers have a text (tasks/sampling.py).
"""

import functools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from infra.canonical import seeded_random, text_id
from infra.errors import RecipeError
from infra.models.completions import FINISHED, LENGTH
from infra.plugins import find_plugins
from infra.recipe import Pairing
from tasks.metrics import likeness
from tasks.records.example import STRONG, Answer, AnswerId, Drop, Example, Pair

DIGITS = 6  # of a margin
_NO_WORDS: Mapping[AnswerId, str] = {}


@dataclass(frozen=True, slots=True)
class Ranked:
    """An answer that has text and a reward."""

    answer: Answer
    reward: float
    may_win: bool = True  # False for an answer that is never chosen

    @property
    def index(self) -> int:
        """Which of the question's samples it is."""
        return self.answer.sample_index


Couple = tuple[Ranked, Ranked]  # chosen, rejected


@dataclass(frozen=True, slots=True)
class Rule:
    """`candidates(ranking, random)`: the answers that may be rejected in the first pair, the first to try first.
    `further(ranking, candidates)`: the couples that may be pairs after it, the first to try first.

    The ranking is best first and holds two answers or more. With `chooses_strong` its first is the stronger model's
    answer with a reward of 1 and the others are the policy's with 0, whatever the scorers say. `rank(example, answers
    with text, random)` ranks by something else than the scorers' rewards: a baseline's own. `needs_short`: it compares
    answers over the evidence with those over the whole context.
    """

    name: str
    candidates: Callable[[Sequence[Ranked], random.Random], list[Ranked]]
    further: Callable[[Sequence[Ranked], Sequence[Ranked]], Iterable[Couple]]
    extremes_only: bool = False  # its first pair looks at nothing but the highest and the lowest rewards
    chooses_strong: bool = False
    needs_short: bool = False
    rank: Callable[[Example, Sequence[Answer], random.Random], list[Ranked]] | None = None


@functools.cache
def known_rules() -> Mapping[str, Rule]:
    """All rules of this package, by name."""
    return find_plugins(__name__, "RULE")


def find_rule(name: str) -> Rule:
    """The rule of that name. Raises RecipeError naming those there are."""
    if name not in known_rules():
        raise RecipeError(f"pairing.rule: there is no rule {name!r}; there are: {', '.join(known_rules())}")
    return known_rules()[name]


def extremes_alone(settings: Pairing) -> bool:
    """True where no pair depends on an answer that is neither best nor worst."""
    return find_rule(settings.rule).extremes_only and settings.pairs_per_question == 1


def pair_example(
    example: Example,
    answers: Sequence[Answer],
    rewards: Mapping[tuple[str, int], float | None],
    settings: Pairing,
    seed: int,
    never_chosen: frozenset[AnswerId] = frozenset(),
    words: Mapping[AnswerId, str] = _NO_WORDS,
) -> list[Pair] | Drop:
    """The pairs of an example, one to `pairs_per_question`, no two of the same answers; or a drop with its reason.

    Reasons, in the order in which they are looked for: "no_answers", or the outcome that all answers share, as
    "unfinished_thinking" or "content_filter" (stage "sample"; the rest are of stage "pair"), "no_strong_answer"
    (contrast alone),
    "too_few_scored", "tie" (all rewards are equal), "cut_off" (nothing that may be chosen stands above what may be
    rejected), "small_margin", "near_identical". `rewards` is by (example_id, sample_index); `seed` is the
    plan's. Answers in `never_chosen` may be rejected alone. `words` are those of refusals (tasks/refused_answers.py).
    """
    rule = find_rule(settings.rule)
    sampled = [answer for answer in answers if answer.sample_index >= 0]
    with_text = [answer for answer in sampled if answer.text.strip()]
    if not with_text:
        return _without_answers(example, sampled, words)
    if rule.chooses_strong:
        ranking = _strong_first(answers, with_text)
    elif rule.rank is not None:
        ranking = rule.rank(example, with_text, seeded_random(seed, example.example_id, "rank"))
    else:
        ranking = _ranking(with_text, rewards, never_chosen)
    if rule.chooses_strong and len(ranking) == len(with_text):
        strong = next((answer for answer in answers if answer.sample_index == STRONG), None)
        reason = "it was not asked" if strong is None else strong.finish_reason
        return _drop(example, "no_strong_answer", f"the stronger model gave no text: {reason}")
    if len(ranking) < settings.min_scored and not rule.chooses_strong:
        detail = f"{len(ranking)} of {len(sampled)} answers have a reward; pairing.min_scored is {settings.min_scored}"
        return _drop(example, "too_few_scored", detail + _first_words(sampled, words))
    if ranking[0].reward == ranking[-1].reward:
        return _drop(example, "tie", f"all {len(ranking)} rewards are {ranking[0].reward}")
    candidates = rule.candidates(ranking, seeded_random(seed, example.example_id, "pair"))
    first = _first(example, ranking, candidates, settings)
    if isinstance(first, Drop):
        return first
    couples = rule.further(ranking, candidates) if settings.pairs_per_question > 1 else ()
    return [_pair(example, *couple) for couple in _with_further(first, couples, ranking, settings)]


def _without_answers(example: Example, sampled: Sequence[Answer], words: Mapping[AnswerId, str]) -> Drop:
    """The drop of a question none of whose answers has text: their outcomes, and the words of the first refusal."""
    outcomes = Counter(answer.finish_reason for answer in sampled)
    detail = ", ".join(f"{reason}: {count}" for reason, count in sorted(outcomes.items()))
    shared = next(iter(outcomes)) if len(outcomes) == 1 else ""
    reason = "no_answers" if shared in ("", *FINISHED) else shared
    return Drop(example.example_id, "sample", reason, (detail or "no answer was drawn") + _first_words(sampled, words))


def _first_words(answers: Sequence[Answer], words: Mapping[AnswerId, str]) -> str:
    for answer in answers:
        if answer.id in words:
            return f"; “{words[answer.id]}”"
    return ""


def may_be_chosen(finish_reason: str, settings: Pairing) -> bool:
    """False for an answer that max_tokens cut off, unless the recipe lets it be chosen."""
    return settings.cut_off_as_chosen or finish_reason != LENGTH


def _may_be_chosen(ranked: Ranked, settings: Pairing) -> bool:
    return ranked.may_win and may_be_chosen(ranked.answer.finish_reason, settings)


def margin(chosen: Ranked, rejected: Ranked) -> float:
    """The difference in reward, to 6 decimals."""
    return round(chosen.reward - rejected.reward, DIGITS)


def _first(
    example: Example, ranking: Sequence[Ranked], candidates: Sequence[Ranked], settings: Pairing
) -> Couple | Drop:
    chosen = next((ranked for ranked in ranking if _may_be_chosen(ranked, settings)), None)
    below = [ranked for ranked in candidates if chosen is not None and margin(chosen, ranked) > 0]
    if chosen is None or not below:
        return _drop(example, "cut_off", "the answers above those that may be rejected were cut off")
    far = [ranked for ranked in below if margin(chosen, ranked) >= settings.min_margin]
    if not far:
        widest = max(margin(chosen, ranked) for ranked in below)
        return _drop(example, "small_margin", f"the widest margin is {widest}; at least {settings.min_margin} is asked")
    for rejected in far:
        if not _alike(chosen, rejected, settings.max_likeness):
            return chosen, rejected
    return _drop(example, "near_identical", f"chosen is like each of {len(far)} answers that may be rejected")


def _with_further(
    first: Couple, couples: Iterable[Couple], ranking: Sequence[Ranked], settings: Pairing
) -> list[Couple]:
    """The first couple and those that follow it, as many as may be."""
    index_of_text = {tuple(ranked.answer.text.split()): ranked.index for ranked in (*reversed(ranking), *first)}
    distinct = set(index_of_text.values())
    left = []
    for chosen, rejected in couples:
        gap = margin(chosen, rejected)
        allowed = _may_be_chosen(chosen, settings) and gap > 0 and gap >= settings.min_margin
        if allowed and {chosen.index, rejected.index} <= distinct:
            left.append((chosen, rejected))
    taken = {_indices(first): first}
    paired = set(_indices(first))
    for fresh in (2, 1, 0):  # answers that are in no pair yet; what a pass leaves behind never has more of them again
        for couple in left:
            if len(taken) == settings.pairs_per_question:
                return list(taken.values())
            indices = _indices(couple)
            due = indices not in taken and len({*indices} - paired) == fresh
            if due and not _alike(*couple, settings.max_likeness):
                taken[indices] = couple
                paired.update(indices)
    return list(taken.values())


def _indices(couple: Couple) -> tuple[int, int]:
    return couple[0].index, couple[1].index


def _ranking(
    answers: Sequence[Answer],
    rewards: Mapping[AnswerId, float | None],
    never_chosen: frozenset[AnswerId] = frozenset(),
) -> list[Ranked]:
    """Answers with a reward, best first; equal rewards by the text's hash, equal texts by sample index."""
    scored = []
    for answer in answers:
        reward = rewards.get(answer.id)
        if reward is not None:
            scored.append(Ranked(answer, reward, answer.id not in never_chosen))
    return sorted(scored, key=lambda ranked: (-ranked.reward, text_id(ranked.answer.text), ranked.index))


def _strong_first(answers: Sequence[Answer], with_text: Sequence[Answer]) -> list[Ranked]:
    """The stronger model's answer, if it has text, before the policy's."""
    strong = [Ranked(answer, 1.0) for answer in answers if answer.sample_index == STRONG and answer.text.strip()]
    return [*strong, *_ranking(with_text, {answer.id: 0.0 for answer in with_text})]


def _alike(chosen: Ranked, rejected: Ranked, limit: float) -> bool:
    first, second = chosen.answer.text, rejected.answer.text
    return first.split() == second.split() or likeness(first, second) > limit


def _pair(example: Example, chosen: Ranked, rejected: Ranked) -> Pair:
    return Pair(
        example.example_id,
        example.context_id,
        chosen.answer.sample_index,
        rejected.answer.sample_index,
        chosen.reward,
        rejected.reward,
        margin(chosen, rejected),
    )


def _drop(example: Example, reason: str, detail: str) -> Drop:
    return Drop(example.example_id, "pair", reason, detail)

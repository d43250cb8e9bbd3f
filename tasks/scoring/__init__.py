"""Scoring: which scorers there are, which ones a recipe uses, and the reward that their scores make.

A scorer is one file of this package with a constant `SCORER`; adding the file is all it takes. A scorer gives every
answer with text a judgement: a score, or null with a reason. Answers without text (empty, refused, filtered) never
need a scorer: the frame (`run.py`) gives them a null score with the reason. The reward of an answer is the weighted
mean of its scores, and null when a score that it needs is null.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from infra.errors import RecipeError
from infra.plugins import find_plugins
from infra.recipe import Recipe, RecipeSection
from infra.recipe.faults import faults_by_key
from infra.recipe.models import require_one_currency
from tasks.judging.context import SCORE_DIGITS, AnsweredQuestion, ScoringContext
from tasks.judging.reward_settings import called_models
from tasks.judging.steps import Steps
from tasks.pairing import extremes_alone
from tasks.records.example import AnswerId, Judgement

__all__ = [
    "CASCADE",
    "ActiveScorer",
    "AnsweredQuestion",
    "Scorer",
    "ScoringContext",
    "Steps",
    "check_scorers",
    "embeds_texts",
    "known_scorers",
    "pairing_rewards",
    "parse_scorers",
    "rewards",
    "weighted_mean",
]

CASCADE = "cascade"  # the judgement that a cascade adds to those of the scorers (stages.py)

Score = Callable[[Sequence[AnsweredQuestion], Any, ScoringContext], Steps | list[Judgement]]


def _no_calls(settings: Any, recipe: Recipe, context_tokens: int) -> Mapping[str, float]:
    return {}


def _no_prompts(settings: Any, recipe: Recipe) -> Sequence[str]:
    return ()


def _embeds_nothing(settings: Any) -> bool:
    return False


def _no_check(settings: Any) -> None:
    """Nothing has to be there."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """A way to score answers. `score(questions, settings, scoring)` returns one judgement for each answer with text.

    `score` is a generator of steps (`tasks/judging/steps.py`), or a function that returns the judgements at once.

    Of a scorer that asks the recipe's judge: `calls(settings, recipe, context tokens)` gives the expected judge calls
    for one question by kind, `prompts(settings, recipe)` names the prompt files; both are part of the plan.
    `check(settings)` raises a LongmillError where a model of the scorer's own is missing; `longmill doctor` calls it.
    `embeds(settings)` is true where it uses the recipe's embedding model.
    """

    name: str
    settings: type[RecipeSection]
    score: Score
    needs_judge: bool = False
    compares: bool = False  # the score of an answer depends on the question's other answers
    waits_for_others: bool = False  # it yields `pruning_bounds()`: what the other scorers say decides what it asks
    calls: Callable[[Any, Recipe, int], Mapping[str, float]] = _no_calls
    prompts: Callable[[Any, Recipe], Sequence[str]] = _no_prompts
    check: Callable[[Any], None] = _no_check
    embeds: Callable[[Any], bool] = _embeds_nothing


@dataclass(frozen=True, slots=True)
class ActiveScorer:
    """A scorer that a recipe uses, its settings checked. Weight 0: scored and reported, not part of the reward."""

    name: str
    weight: float
    settings: RecipeSection


@functools.cache
def known_scorers() -> Mapping[str, Scorer]:
    """All scorers of this package, by name."""
    return find_plugins(__name__, "SCORER")


def parse_scorers(recipe: Recipe) -> list[ActiveScorer]:
    """The recipe's scorers in its order. Raises RecipeError naming the key at fault."""
    scorers = [_parse(f"scoring.scorers.{place}", entry) for place, entry in enumerate(recipe.scoring.scorers)]
    names = [scorer.name for scorer in scorers]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(f"scoring.scorers: {name!r} is there more than once; give it once, with one weight")
    if not any(scorer.weight > 0 for scorer in scorers):
        raise RecipeError("scoring.scorers: no scorer has a weight above 0, so that no answer would get a reward")
    _check_cascade(recipe, scorers)
    return scorers


def _check_cascade(recipe: Recipe, scorers: Sequence[ActiveScorer]) -> None:
    cascade = recipe.scoring.cascade
    if cascade is None:
        return
    weights = {scorer.name: scorer.weight for scorer in scorers}
    for name in cascade.stages:
        if weights.get(name) != 0 or cascade.stages.count(name) > 1:
            raise RecipeError(
                f"scoring.cascade.stages: {name!r} has to be in scoring.scorers with weight: 0, and here once: its "
                "score says what the judge's reward would be, and is no part of it"
            )
    judges = [scorer.name for scorer in scorers if scorer.weight > 0]
    for name in cascade.last:
        if name not in judges or cascade.last.count(name) > 1 or len(cascade.last) == len(judges):
            raise RecipeError(
                f"scoring.cascade.last: {name!r} has to be in scoring.scorers with a weight, and here once, and not "
                "every scorer with a weight can be last: what the others say decides whether it is asked"
            )
    for scorer in scorers:
        if scorer.name not in cascade.stages and known_scorers()[scorer.name].compares:
            raise RecipeError(
                f"scoring.cascade: {scorer.name} compares the answers of a question, so it cannot judge a few of them; "
                "name it in `stages` with weight: 0, or leave it out"
            )
    if not extremes_alone(recipe.pairing):
        raise RecipeError(
            "scoring.cascade: it finds the best and the worst answer alone; set pairing.rule: best_vs_worst and "
            "pairing.pairs_per_question: 1, or leave the cascade out"
        )


def embeds_texts(recipe: Recipe) -> bool:
    """True when a scorer of the recipe uses its embedding model."""
    return any(known_scorers()[scorer.name].embeds(scorer.settings) for scorer in parse_scorers(recipe))


def check_scorers(recipe: Recipe) -> list[ActiveScorer]:
    """The recipe's scorers. Raises RecipeError also when one asks a judge and the recipe has none, when one wants what
    a judge that thinks cannot give, or when prices are in different currencies."""
    scorers = parse_scorers(recipe)
    for scorer in scorers:
        if known_scorers()[scorer.name].needs_judge and recipe.judge is None:
            raise RecipeError(
                f"scoring.scorers: {scorer.name} asks a judge, and the recipe has no `judge` section; add one"
            )
        _check_thinking(scorer, recipe)
        other = getattr(scorer.settings, "weigh_by", None)
        if other is not None and (other == scorer.name or other not in [active.name for active in scorers]):
            raise RecipeError(
                f"scoring.scorers: {scorer.name}.weigh_by is {other!r}, which is no other scorer of the recipe; add it "
                "to the list, with weight 0 where it is to weigh votes alone"
            )
        if getattr(scorer.settings, "similarity", "") == "bertscore" and recipe.embedding.endpoint is not None:
            raise RecipeError(
                f"scoring.scorers: {scorer.name}.similarity: bertscore compares vectors of tokens, which an endpoint "
                "does not give; leave out embedding.endpoint, so that the model is loaded here"
            )
    try:
        require_one_currency(**called_models(recipe), embedding=recipe.embedding)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    return scorers


def _check_thinking(scorer: ActiveScorer, recipe: Recipe) -> None:
    judge = recipe.judge
    thinks = judge is not None and (judge.reasoning == "always" or judge.reasoning_tokens > 0)
    if thinks and getattr(scorer.settings, "expected", "off") != "off":
        raise RecipeError(
            f"scoring.scorers: {scorer.name}.expected reads the first token of a reply, which a judge that thinks "
            "spends on thinking; set expected: off"
        )


def rewards(judgements: Iterable[Judgement], scorers: Sequence[ActiveScorer]) -> dict[AnswerId, float | None]:
    """Each answer's reward: the mean of its scores by weight, to 6 decimals; null if a needed score is null."""
    scores: dict[AnswerId, dict[str, float | None]] = {}
    for judgement in judgements:
        of_answer = scores.setdefault(judgement.answer_id, {})
        of_answer[judgement.scorer] = judgement.score
    weights = {scorer.name: scorer.weight for scorer in scorers if scorer.weight > 0}
    return {answer_id: weighted_mean(of_answer, weights) for answer_id, of_answer in scores.items()}


def pairing_rewards(judgements: Sequence[Judgement], recipe: Recipe) -> Mapping[AnswerId, float | None]:
    """The rewards that pairs are made by. With a cascade those are expected ones for answers that were not judged."""
    if recipe.scoring.cascade is None:
        return rewards(judgements, parse_scorers(recipe))
    return {judgement.answer_id: judgement.score for judgement in judgements if judgement.scorer == CASCADE}


def weighted_mean(scores: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """The mean of the scores that have a weight, to 6 decimals; null where one of them is."""
    total = 0.0
    for name, weight in weights.items():
        score = scores.get(name)
        if score is None:
            return None
        total += weight * score
    return round(total / sum(weights.values()), SCORE_DIGITS)


def _parse(path: str, entry: Mapping[str, Any]) -> ActiveScorer:
    settings = dict(entry)
    name = settings.pop("scorer", None)
    weight = settings.pop("weight", 1.0)
    scorer = known_scorers().get(name) if isinstance(name, str) else None
    if scorer is None:
        raise RecipeError(f"{path}.scorer: there is no scorer {name!r}; there are: {', '.join(known_scorers())}")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise RecipeError(f"{path}.weight: {weight!r} is not a number of 0 or more")
    try:
        return ActiveScorer(scorer.name, float(weight), scorer.settings.model_validate(settings))
    except ValidationError as error:
        raise RecipeError("; ".join(_faults(path, error))) from error


def _faults(path: str, error: ValidationError) -> Iterable[str]:
    for key, problem in faults_by_key(error):
        yield f"{path}.{key}: {problem}" if key else f"{path}: {problem}"

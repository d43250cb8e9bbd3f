"""Scoring: which scorers there are, which a recipe wants, and the reward that their scores make.

A scorer is one file of this package with a constant `SCORER`; putting the file there is all it takes. A
scorer judges every sampled answer of every case it is given: a number, or null with a reason. A reward is the
weighted mean of the scores of one answer, and null when a score that it needs is null.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from infra.errors import BalanceError, RecipeError
from infra.models.client import ModelClient
from infra.models.embedding import Embedder
from infra.plugins import find_plugins
from infra.recipe import Recipe, RecipeSection
from tasks.judging.memo import Memo
from tasks.judging.pruning import AnswerId, PruningBounds
from tasks.pairing import extremes_alone
from tasks.records.example import Answer, Context, Example, Judgement

DIGITS = 6  # of a score and a reward: beyond them, machines differ


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question with its context and its sampled answers (sample_index ≥ 0)."""

    example: Example
    context: Context
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class ScoringContext:
    """What scorers may use; the embedding model is loaded when it is first asked for."""

    embedder: Callable[[], Embedder]
    client: ModelClient | None  # of the policy
    recipe: Recipe
    judge: ModelClient | None = None  # of the recipe's judge
    memo: Memo = field(default_factory=Memo)
    standing: PruningBounds | None = None  # where answers that cannot matter any more need not be judged


Judge = Callable[[Sequence[AnsweredQuestion], Any, ScoringContext], list[Judgement]]


def _no_calls(settings: Any, recipe: Recipe, context_tokens: int) -> Mapping[str, float]:
    return {}


def _no_prompts(settings: Any, recipe: Recipe) -> Sequence[str]:
    return ()


def _no_check(settings: Any) -> None:
    """Nothing has to be there."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """A way to score answers. `judge(cases, settings, bench)` returns one judgement for each answer.

    Of a scorer that asks the recipe's judge: `calls(settings, recipe, context tokens)` expects the judge calls for
    one question by kind, `prompts(settings, recipe)` names the prompt files; both are part of the plan.
    `check(settings)` raises a LongmillError where a model of the scorer's own is not there; `longmill doctor` asks.
    """

    name: str
    settings: type[RecipeSection]
    judge: Judge
    needs_judge: bool = False
    asked_last: bool = False  # after the others; `bench.standing` tells it what they said
    calls: Callable[[Any, Recipe, int], Mapping[str, float]] = _no_calls
    prompts: Callable[[Any, Recipe], Sequence[str]] = _no_prompts
    check: Callable[[Any], None] = _no_check


@dataclass(frozen=True, slots=True)
class ActiveScorer:
    """A scorer that a recipe uses, its settings checked. Weight 0: judged and reported, not part of the reward."""

    name: str
    weight: float
    settings: RecipeSection


@functools.cache
def known_scorers() -> Mapping[str, Scorer]:
    """All scorers of this package, by name."""
    return find_plugins(__name__, "SCORER")


def parse_scorers(recipe: Recipe) -> list[ActiveScorer]:
    """The recipe's scorers in its order. Raises RecipeError naming the key at fault."""
    active = [_parse(f"scoring.scorers.{place}", entry) for place, entry in enumerate(recipe.scoring.scorers)]
    names = [scorer.name for scorer in active]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(f"scoring.scorers: {name!r} is there more than once; give it once, with one weight")
    if not any(scorer.weight > 0 for scorer in active):
        raise RecipeError("scoring.scorers: no scorer has a weight above 0, so that no answer would get a reward")
    return active


def check_scorers(recipe: Recipe) -> list[ActiveScorer]:
    """The recipe's scorers. Raises RecipeError also when one of them asks a judge and the recipe has none."""
    active = parse_scorers(recipe)
    for scorer in active:
        if known_scorers()[scorer.name].needs_judge and recipe.judge is None:
            raise RecipeError(
                f"scoring.scorers: {scorer.name} asks a judge, and the recipe has no `judge` section; add one"
            )
    return active


def judge_all(
    cases: Sequence[AnsweredQuestion], scorers: Sequence[ActiveScorer], bench: ScoringContext
) -> list[Judgement]:
    """Every scorer's judgement of every answer: by case, then answer, then scorer.

    Raises BalanceError when a scorer has left an answer out or judged it twice.
    """
    columns: dict[str, dict[AnswerId, Judgement]] = {}
    for active in sorted(scorers, key=lambda each: known_scorers()[each.name].asked_last):
        said = [judgement for column in columns.values() for judgement in column.values()]
        own = replace(bench, standing=_standing(said, cases, active, scorers, bench.recipe))
        columns[active.name] = _column(active, cases, own)
    return [
        columns[active.name][answer.example_id, answer.sample_index]
        for case in cases
        for answer in case.answers
        for active in scorers
    ]


def _column(
    active: ActiveScorer, cases: Sequence[AnsweredQuestion], bench: ScoringContext
) -> dict[AnswerId, Judgement]:
    expected = {(case.example.example_id, answer.sample_index) for case in cases for answer in case.answers}
    judgements = known_scorers()[active.name].judge(cases, active.settings, bench)
    column = {(each.example_id, each.sample_index): each for each in judgements}
    if len(judgements) != len(expected) or column.keys() != expected:
        raise BalanceError(f"scorer {active.name!r} gave {len(judgements)} judgements on {len(expected)} answers")
    return column


def _standing(
    said: Sequence[Judgement],
    cases: Sequence[AnsweredQuestion],
    active: ActiveScorer,
    scorers: Sequence[ActiveScorer],
    recipe: Recipe,
) -> PruningBounds | None:
    """What the scorer that is asked last is told; null when its every word counts, or another is yet to speak."""
    last = [each for each in scorers if known_scorers()[each.name].asked_last and each.weight > 0]
    if not recipe.scoring.prune or last != [active] or not extremes_alone(recipe.pairing):
        return None
    weights = {each.name: each.weight for each in scorers if each.weight > 0 and each is not active}
    sums: dict[AnswerId, float | None] = {
        (answer.example_id, answer.sample_index): 0.0 for case in cases for answer in case.answers
    }
    for each in said:
        key = each.example_id, each.sample_index
        so_far = sums[key]
        if each.scorer in weights and so_far is not None:
            sums[key] = None if each.score is None else so_far + weights[each.scorer] * each.score
    return PruningBounds(sums, active.weight, active.weight + sum(weights.values()), recipe.pairing)


def rewards(judgements: Iterable[Judgement], scorers: Sequence[ActiveScorer]) -> dict[AnswerId, float | None]:
    """Each answer's reward: the mean of its scores by weight, to 6 decimals; null if a needed score is null."""
    scores: dict[AnswerId, dict[str, float | None]] = {}
    for each in judgements:
        scores.setdefault((each.example_id, each.sample_index), {})[each.scorer] = each.score
    needed = {scorer.name: scorer.weight for scorer in scorers if scorer.weight > 0}
    return {answer: _weighted_mean(of_answer, needed) for answer, of_answer in scores.items()}


def _weighted_mean(scores: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    total = 0.0
    for name, weight in weights.items():
        score = scores.get(name)
        if score is None:
            return None
        total += weight * score
    return round(total / sum(weights.values()), DIGITS)


def _parse(path: str, entry: Mapping[str, Any]) -> ActiveScorer:
    own = dict(entry)
    name = own.pop("scorer", None)
    weight = own.pop("weight", 1.0)
    scorer = known_scorers().get(name) if isinstance(name, str) else None
    if scorer is None:
        raise RecipeError(f"{path}.scorer: there is no scorer {name!r}; there are: {', '.join(known_scorers())}")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise RecipeError(f"{path}.weight: {weight!r} is not a number of 0 or more")
    try:
        return ActiveScorer(scorer.name, float(weight), scorer.settings.model_validate(own))
    except ValidationError as error:
        raise RecipeError("; ".join(_faults(path, error))) from error


def _faults(path: str, error: ValidationError) -> Iterable[str]:
    for fault in error.errors(include_url=False):
        key = ".".join([path, *map(str, fault["loc"])])
        yield f"{key}: " + ("no such key" if fault["type"] == "extra_forbidden" else fault["msg"])

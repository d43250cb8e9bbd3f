"""How many of a scorer's calls a cascade is expected to leave, by the replay of its calibration."""

from typing import Any

from infra.errors import RecipeError
from infra.recipe import Recipe
from tasks.judging.cascade_calibration import Operating, operating_point
from tasks.scoring import ActiveScorer, known_scorers


def expected_calls(scorer: ActiveScorer, recipe: Recipe, context_tokens: int) -> dict[str, float]:
    """The scorer's calls for one question, by kind. Of a cascade's judge: for the answers that it is expected to be
    asked about, and what is once for a question for the questions that reach it."""
    count = known_scorers()[scorer.name].calls
    whole = dict(count(scorer.settings, recipe, context_tokens))
    shares = _shares(scorer.name, recipe)
    if shares is None:
        return whole
    of_questions, of_answers = shares
    no_answer = recipe.model_copy(update={"sampling": recipe.sampling.model_copy(update={"samples": 0})})
    once = count(scorer.settings, no_answer, context_tokens)
    expected = {}
    for kind, calls in whole.items():
        for_question = once.get(kind, 0.0)
        expected[kind] = of_questions * for_question + of_answers * (calls - for_question)
    return expected


def cascade_view(recipe: Recipe) -> dict[str, Any] | None:
    """What is expected of the recipe's cascade, JSON-ready; None without one.

    {"control": share judged in full} and, with a calibration, {"questions": that it was replayed on, "agreement" there,
    "decided": {stage: share of questions}, "reached": share of questions with a judged answer, "answers": that share},
    and where scorers come last, {"last": their names, "reached_last", "answers_last"} of them.
    """
    cascade = recipe.scoring.cascade
    if cascade is None:
        return None
    point = _point(recipe)
    if point is None:
        return {"control": 1.0}
    own = {"questions": point.questions, "agreement": round(point.agreement, 4), "decided": dict(point.decided)}
    view = {"control": cascade.control_share, **own, "reached": point.reached, "answers": point.answers}
    if cascade.last:
        view |= {"last": list(cascade.last), "reached_last": point.reached_last, "answers_last": point.answers_last}
    return view


def _point(recipe: Recipe) -> Operating | None:
    try:
        return operating_point(recipe)
    except RecipeError:  # an estimate does not fail for it: the plan has been checked
        return None


def _shares(name: str, recipe: Recipe) -> tuple[float, float] | None:
    """The shares of questions and of answers that the scorer is asked about; None for all."""
    cascade = recipe.scoring.cascade
    point = _point(recipe)
    if cascade is None or point is None:
        return None
    if name in cascade.stages:
        before = cascade.stages[: cascade.stages.index(name)]
        reached = 1 - sum(point.decided[stage] for stage in before)
        shares = reached, reached
    elif name in cascade.last and point.reached_last is not None and point.answers_last is not None:
        shares = point.reached_last, point.answers_last
    else:
        shares = point.reached, point.answers
    control = cascade.control_share
    return control + (1 - control) * shares[0], control + (1 - control) * shares[1]

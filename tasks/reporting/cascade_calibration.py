"""Calibrating a cascade on a published dataset: on the questions whose every answer its judge has judged.

The dataset holds the scores of the stages and the judge's, so no model is asked. A dataset that a cascade has made
cheaper gives its control sample alone: what it judged in full besides was chosen because it was hard.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any

from infra.canonical import text_id
from infra.errors import InputError, RecipeError
from infra.recipe import Recipe
from infra.store import open_store
from tasks.judging.cascade import Candidate
from tasks.judging.cascade_calibration import (
    JudgedCandidates,
    Operating,
    cascade_identity,
    fit_cascade,
    least_questions,
)
from tasks.judging.pruning import PRUNED
from tasks.judging.refusals import FACTS_SCORER, is_unfounded
from tasks.pairing import may_be_chosen
from tasks.records.reader import PublishedDataset, read_dataset
from tasks.reporting.judged_questions import parse_evidence
from tasks.scoring import CASCADE, check_scorers, parse_scorers, weighted_mean
from tasks.scoring.stages import DECIDED

_COLUMNS = ("example_id", "sample_index", "text", "finish_reason", "reward", "judgements")
_AGREEMENTS = (0.8, 0.9, 0.95, 0.98)  # of the table, beside the recipe's own


def calibrate_cascade(place: str, recipe: Recipe) -> dict[str, Any]:
    """Calibrate the recipe's cascade on the dataset at `place`, and write the calibration to the recipe's store.

    {"calibration": path in the store, "questions": fully judged, "of": all, "choices": [{"agreement": wanted, and of
    `Operating` where it can be had}], "last": scorers that come last, "models"}. Raises RecipeError without a cascade,
    InputError for too few judged questions and for a dataset without the scores of a stage.
    """
    cascade = recipe.scoring.cascade
    if cascade is None:
        raise RecipeError("scoring: the recipe has no `cascade`; add {stages: [...]} there")
    check_scorers(recipe)
    dataset = read_dataset(place)
    _check_dataset(dataset, recipe)
    questions, count = [], 0
    for rows in _by_question(dataset):
        count += 1
        judged = _judged_candidates(rows, cascade.stages, recipe, control_alone=_was_cheaper(dataset))
        if judged is not None:
            questions.append(judged)
    if len(questions) < least_questions(cascade.agreement):
        remedy = "take a dataset of more questions, or a lower agreement"
        if len(questions) < count:
            remedy = (
                "build with the stages in the recipe, without a calibration: then nothing is left out, and what was "
                "judged before comes from the ledger"
            )
        raise InputError(
            f"{dataset.place}: {len(questions)} of {count} questions have every answer judged, and an agreement of "
            f"{cascade.agreement:g} takes {least_questions(cascade.agreement)}; {remedy}"
        )
    identity = cascade_identity(recipe)
    calibration = fit_cascade(questions, cascade.stages, identity, cascade.agreement, some_last=bool(cascade.last))
    figures = {"dataset": dataset.sha256, "questions": len(questions)}
    calibration = replace(calibration, figures=figures)
    choices = []
    for agreement in sorted({*_AGREEMENTS, cascade.agreement}):
        choices.append(_choice(agreement, calibration.operating(agreement)))
    return {
        "calibration": calibration.write(open_store(recipe.store)),
        "questions": len(questions),
        "of": count,
        "wanted": cascade.agreement,
        "last": list(cascade.last),
        "choices": choices,
        "models": asdict(calibration.models),
    }


def _choice(agreement: float, point: Operating | None) -> dict[str, Any]:
    """What an agreement would cost; `threshold` is null where every answer has to be judged."""
    if point is None:
        return {
            "agreement": agreement,
            "threshold": None,
            "measured": 1.0,
            "answers": 1.0,
            "reached": 1.0,
            "answers_last": 1.0,
            "reached_last": 1.0,
            "decided": {},
        }
    return {
        "agreement": agreement,
        "threshold": point.threshold,
        "measured": round(point.agreement, 4),
        "answers": point.answers,
        "reached": point.reached,
        "answers_last": point.answers_last,
        "reached_last": point.reached_last,
    }


def _by_question(dataset: PublishedDataset) -> Iterator[list[Mapping[str, Any]]]:
    for _, rows in groupby(dataset.rows("evidence", _COLUMNS), key=lambda row: row["example_id"]):
        yield [row for row in rows if row["sample_index"] >= 0]


def _was_cheaper(dataset: PublishedDataset) -> bool:
    cascade = dataset.manifest["recipe"]["scoring"].get("cascade")
    return bool(cascade and cascade.get("calibration"))


def _check_dataset(dataset: PublishedDataset, recipe: Recipe) -> None:
    """Raise InputError for a dataset of another judge or of other scorers."""
    theirs = dataset.manifest["recipe"]
    weights = {entry["scorer"]: float(entry.get("weight", 1.0)) for entry in recipe.scoring.scorers}
    assert recipe.scoring.cascade is not None
    missing = [stage for stage in recipe.scoring.cascade.stages if stage not in dataset.weights]
    if missing:
        raise InputError(
            f"{dataset.place}: no score of {', '.join(missing)}; build it again with the stages in scoring.scorers, "
            "with weight: 0: the judge's replies come from the ledger"
        )
    judges = [(theirs.get("judge") or {}).get("name"), recipe.judge.name if recipe.judge else None]
    if judges[0] != judges[1] or dataset.weights != weights:
        raise InputError(
            f"{dataset.place}: judged by {judges[0]} with the weights {json.dumps(dataset.weights)}, and the recipe "
            f"has {judges[1]} with {json.dumps(weights)}; calibrate on a dataset of the recipe's own judge and scorers"
        )


def _judged_candidates(
    rows: Sequence[Mapping[str, Any]], stages: Sequence[str], recipe: Recipe, control_alone: bool
) -> JudgedCandidates | None:
    """The candidates of a question; None where an answer was left out."""
    assert recipe.scoring.cascade is not None
    last = recipe.scoring.cascade.last
    judges = [scorer for scorer in parse_scorers(recipe) if scorer.weight > 0]
    first = {scorer.name: scorer.weight for scorer in judges if scorer.name not in last}
    candidates: dict[tuple[str, bool], Candidate] = {}
    for row in rows:
        judgements = {judgement["scorer"]: judgement for judgement in row["judgements"]}
        if control_alone and not parse_evidence(judgements[CASCADE]["evidence"]).get("control"):
            return None
        reasons = {judgement["reason"] for scorer, judgement in judgements.items() if scorer not in (*stages, CASCADE)}
        if not row["text"].strip():
            continue
        if reasons & {PRUNED, DECIDED}:
            return None
        cut_off = not may_be_chosen(row["finish_reason"], recipe.pairing)
        scores = tuple(judgements[stage]["score"] for stage in stages)
        facts = judgements.get(FACTS_SCORER)
        unfounded = facts is not None and is_unfounded(facts["score"], facts["evidence"])
        part = weighted_mean({name: judgements[name]["score"] for name in first}, first) if last else None
        reward = row["reward"]
        candidate = Candidate(text_id(row["text"]), scores, cut_off, unfounded, reward, judged=True, part=part)
        candidates.setdefault((row["text"], cut_off), candidate)
    return JudgedCandidates(rows[0]["example_id"], tuple(candidates.values())) if candidates else None

"""Calibrating a verifier on a published dataset: on the verdicts that its judge has given.

The facts, their passages and the judge's verdicts are in the dataset's evidence, the passages' text in the prompts of
its pairs. Half of the questions are for the calibration, the other half shows how far it can be trusted: agreement with
the judge in all, by language, by distance from a threshold, and what each `ask_judge_within` would leave to the judge.
Questions without a pair are left out, since their context is not in the dataset. Verdicts of a verifier do not count.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from infra.canonical import text_id
from infra.errors import InputError, RecipeError
from infra.recipe import Recipe
from tasks.judging.calibration import DISTANCES, Calibration, fit_calibration
from tasks.judging.context import ScoringContext
from tasks.judging.refusals import FACTS_SCORER
from tasks.judging.steps import Step
from tasks.judging.verifier import Statement, support_numbers
from tasks.judging.verifier_settings import KEY, VERIFIER, VerifierSettings, verifier_settings
from tasks.records.dataset import TOOLS
from tasks.records.reader import PublishedDataset, read_dataset
from tasks.reporting.judged_questions import parse_evidence
from tasks.reporting.prompt_context import context_in
from tasks.reporting.verdict_agreement import CONTROL, VerdictAgreement
from tasks.resources import open_resources
from tasks.scoring.run import InThread, run_to_end

MOST_QUESTIONS = 500
_PAIR_COLUMNS = ("example_id", "prompt", "strategy", "language", "question", "context_id")
_EVIDENCE_COLUMNS = ("example_id", "sample_index", "judgements")
_DIGITS = 4
ALL = "all"


@dataclass(frozen=True, slots=True)
class JudgedFact:
    """A fact with the judge's verdict on it."""

    example_id: str
    language: str
    statement: Statement
    support: float


@dataclass(frozen=True, slots=True)
class _NumberedFact:
    """The same with the verifier's number."""

    fact: JudgedFact
    logit: float


def calibrate_verifier(place: str, recipe: Recipe) -> dict[str, Any]:
    """Calibrate the recipe's verifier on the dataset at `place`, and write the calibration to the recipe's store.

    {"calibration": path in the store, "temperature", "low", "high", "judge", "facts": {"fitted", "measured",
    "unread"}, "agreement": `VerdictAgreement.figures` on the other half of the questions, "within": [{"within",
    "share": of verdicts left to the judge, "verifier": agreement of its own, "all": with the judge's}]}. Raises
    RecipeError without a verifier, InputError for too few verdicts.
    """
    settings = verifier_settings(recipe)
    if settings is None:
        raise RecipeError(f"scoring.scorers: the recipe has no {KEY}; add {{model: ...}} there")
    dataset = read_dataset(place)
    facts = list(judged_facts(dataset))
    if not facts:
        raise InputError(
            f"{dataset.place}: no verdict of a judge on a fact whose context is in the dataset; give a dataset whose "
            f"recipe has the scorer {FACTS_SCORER}"
        )
    with open_resources(recipe) as resources:
        numbers = _numbers(facts, settings, resources.scoring())
        store = resources.store
    fitted: list[_NumberedFact] = []
    measured: list[_NumberedFact] = []
    for fact, logit in zip(facts, numbers, strict=True):
        if logit is not None:
            for_fit = int(text_id(f"calibration {fact.example_id}")[0], 16) % 2 == 0
            (fitted if for_fit else measured).append(_NumberedFact(fact, logit))
    calibration = fit_calibration(
        [numbered.logit for numbered in fitted], [numbered.fact.support for numbered in fitted], settings.identity()
    )
    judge = (dataset.manifest["recipe"].get("judge") or {}).get("name")
    counts = {"fitted": len(fitted), "measured": len(measured), "unread": numbers.count(None)}
    figures = {
        "judge": judge,
        "dataset": dataset.sha256,
        "facts": counts,
        "agreement": _agreement(measured, calibration),
        "within": _within(measured, calibration),
    }
    calibration = replace(calibration, figures=figures)
    thresholds = {"temperature": calibration.temperature, "low": calibration.low, "high": calibration.high}
    return {"calibration": calibration.write(store), **thresholds, **figures}


def judged_facts(dataset: PublishedDataset) -> Iterator[JudgedFact]:
    """The facts of at most MOST_QUESTIONS questions, drawn by their ids, each fact of a question once."""
    contexts = _contexts(dataset)
    seen: set[tuple[str, str]] = set()
    for row in dataset.rows("evidence", _EVIDENCE_COLUMNS):
        example_id = row["example_id"]
        if example_id not in contexts or row["sample_index"] < 0:
            continue
        context, language, context_id = contexts[example_id]
        for judgement in row["judgements"]:
            if judgement["scorer"] != FACTS_SCORER:
                continue
            for fact in parse_evidence(judgement["evidence"]).get("facts", ()):
                support = _judges_verdict(fact)
                if support is None or (example_id, fact["text"]) in seen:
                    continue
                seen.add((example_id, fact["text"]))
                passages = "\n\n".join(context[start:end].strip() for start, end in fact["passages"])
                subject = f"question {example_id}"
                statement = Statement(passages, fact["text"], example_id, context_id, subject)
                yield JudgedFact(example_id, language, statement, support)


def _contexts(dataset: PublishedDataset) -> dict[str, tuple[str, str, str]]:
    """By example id: the context of a question, its language, and the context's id."""
    ids = {row["example_id"] for row in dataset.rows("pairs", ("example_id",))}
    drawn = set(sorted(ids, key=text_id)[:MOST_QUESTIONS])
    contexts = {}
    for row in dataset.rows("pairs", _PAIR_COLUMNS, (TOOLS,)):
        example_id = row["example_id"]
        if example_id in drawn and example_id not in contexts:
            context = context_in(row["prompt"], row)
            if context is not None:
                contexts[example_id] = (context, row["language"], row["context_id"])
    return contexts


def _judges_verdict(fact: Mapping[str, Any]) -> float | None:
    """The judge's verdict on a fact, on it alone where there is one; None where the verifier gave it, or nobody."""
    control = fact.get(CONTROL)
    if control and control["support"] is not None:
        return float(control["support"])
    if fact["support"] is None or fact.get("by") == VERIFIER:
        return None
    return float(fact["support"])


def _numbers(facts: Sequence[JudgedFact], settings: VerifierSettings, scoring: ScoringContext) -> list[float | None]:
    """The verifier's number of each fact."""
    by_question: dict[str, list[Statement]] = {}
    for fact in facts:
        by_question.setdefault(fact.example_id, []).append(fact.statement)
    numbers: dict[tuple[str, str], float | None] = {}

    def steps() -> Generator[Step, Any, None]:
        by_statement = yield from support_numbers(list(by_question.values()), settings, scoring)
        for statements, of_question in zip(by_question.values(), by_statement, strict=True):
            for statement, number in zip(statements, of_question, strict=True):
                numbers[statement.example_id, statement.text] = number.logit

    run_to_end(steps(), InThread(scoring))
    return [numbers[fact.example_id, fact.statement.text] for fact in facts]


def _agreement(facts: Sequence[_NumberedFact], calibration: Calibration) -> dict[str, Any]:
    """Agreement of the verifier with the judge: in all, by language, and by distance from the nearest threshold."""
    by_question: dict[str, list[_NumberedFact]] = {}
    for numbered in facts:
        by_question.setdefault(numbered.fact.example_id, []).append(numbered)
    tally = VerdictAgreement()
    for of_question in by_question.values():
        pairs: dict[str, list[tuple[float, float]]] = {}
        for numbered in of_question:
            probability = calibration.probability(numbered.logit)
            pair = calibration.support(probability), numbered.fact.support
            for group in (
                ALL,
                f"language {numbered.fact.language}",
                _distance_words(calibration.distance(probability)),
            ):
                pairs.setdefault(group, []).append(pair)
        for group, of_group in pairs.items():
            tally.add(group, of_group)
    figures = tally.figures()
    return {group: figures[group] for group in sorted(figures, key=lambda name: (name != ALL, name))}


def _distance_words(distance: float) -> str:
    """The range of distances that a distance is in."""
    low = max(edge for edge in DISTANCES if edge <= distance)
    higher = [edge for edge in DISTANCES if edge > low]
    return f"{low:.2f} to {higher[0]:.2f} from a threshold" if higher else f"{low:.2f} and more from a threshold"


def _within(facts: Sequence[_NumberedFact], calibration: Calibration) -> list[dict[str, float | None]]:
    """For values of `ask_judge_within`: the share left to the judge, and agreement with the judge."""
    verdicts = []
    for numbered in facts:
        probability = calibration.probability(numbered.logit)
        agrees = calibration.support(probability) == numbered.fact.support
        verdicts.append((calibration.distance(probability), agrees))
    rows = []
    for within in DISTANCES:
        own = [agrees for distance, agrees in verdicts if distance >= within]
        share = 1 - len(own) / len(verdicts) if verdicts else None
        row = {
            "within": within,
            "share": None if share is None else round(share, _DIGITS),
            "verifier": round(sum(own) / len(own), _DIGITS) if own else None,
            "all": round(1 - own.count(False) / len(verdicts), _DIGITS) if verdicts else None,
        }
        rows.append(row)
    return rows

"""Verdicts by entailment on the generated world: the box's verifier beside the rule-based judge, with real figures.

Answers with the world's faults, judged for helpfulness, logicality and faithfulness by the rule-based judge in this
process, facts by sentence. The verifier is the judge in the box with a head of three labels (`train_verifier.py`, no
step of training). It is calibrated on the judge's verdicts for half of the questions; on the other half every question
is judged four times: in full, with pruning, and both with the verifier. Reported: calls to the judge, agreement of the
verdicts and of the pairs with the full judge's.
"""

import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from flows.bench.judging import choice_of, pair_of
from flows.bench.stub_server import stub_embedding
from infra.canonical import text_id
from infra.ledger import Ledger
from infra.models.client import ModelClient, Outcome, Reply, Request
from infra.models.embedding.embedder import Embedder
from infra.models.tokens import resolve_model
from infra.recipe import Recipe, parse_recipe
from infra.store import open_store
from tasks.judging.calibration import fit_calibration
from tasks.judging.verifier import Statement, local_numbers
from tasks.judging.verifier_settings import VerifierSettings
from tasks.microworld.answers import faulty_answer
from tasks.microworld.policy_lessons import context_and_questions, render
from tasks.microworld.rule_judge import judge as rule_judge
from tasks.records.example import Answer, Context, Example, Judgement
from tasks.reporting.verdict_agreement import VerdictAgreement
from tasks.scoring import AnsweredQuestion, ScoringContext, parse_scorers
from tasks.scoring.run import score_answers

QUESTIONS, ANSWERS, DOCUMENTS = 60, 8, 20
WITHIN = (0.0, 0.1, 0.2, 0.3)
_DIMENSIONS = 256  # of the embedding by words


class _RuleJudge:
    """The rule-based judge in the place of a client; a repeated request counts once."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.calls: Counter[str] = Counter()
        self.characters = 0  # of all prompts

    def complete(self, requests: Sequence[Request]) -> list[Outcome]:
        """The replies, in order."""
        for request in requests:
            if request.key not in self.replies:
                prompt = request.prompt.messages[-1]["content"]
                text = rule_judge(prompt).text
                self.replies[request.key] = Reply(request.key, text, "stop", 0, 0, False, "")
                self.calls[request.kind] += 1
                self.characters += len(prompt)
        return [self.replies[request.key] for request in requests]


def measure(questions: int = QUESTIONS) -> dict[str, Any]:
    """Figures of the four ways on half of the questions, for several values of `ask_judge_within`."""
    from transformers import AutoTokenizer

    from tasks.microworld.train_verifier import TEMPLATE, export_verifier, verifier_from_judge

    cases = [_case(number) for number in range(questions)]
    half = questions // 2
    with tempfile.TemporaryDirectory() as folder, Ledger(open_store(folder)) as ledger:
        start, model = Path(resolve_model("microworld-judge")), Path(folder) / "verifier"
        tokenizer = AutoTokenizer.from_pretrained(start)
        export_verifier(verifier_from_judge(start, tokenizer), tokenizer, model)
        verifier = {"model": str(model), "template": TEMPLATE, "labels": {"full": 1, "partial": 0.5}}
        settings = VerifierSettings.model_validate(verifier)
        judged, _ = _judge(cases[:half], _recipe(folder, prune=False))
        clock = time.monotonic()
        calibration = _calibrate(cases[:half], judged, settings)
        calibrating_s = time.monotonic() - clock
        path = calibration.write(open_store(folder))
        full, full_judge = _judge(cases[half:], _recipe(folder, prune=False))
        rows = {"full": _figures(full, full_judge, full, full_judge, cases[half:], _recipe(folder, prune=False))}
        pruned_recipe = _recipe(folder, prune=True)
        rows["pruned"] = _figures(*_judge(cases[half:], pruned_recipe), full, full_judge, cases[half:], pruned_recipe)
        for within in WITHIN:
            own = {**verifier, "calibration": path, "ask_judge_within": within}
            for prune in (False, True):
                recipe = _recipe(folder, prune=prune, verifier=own)
                name = f"entailment, within {within:g}" + (", pruned" if prune else "")
                rows[name] = _figures(*_judge(cases[half:], recipe, ledger), full, full_judge, cases[half:], recipe)
    return {
        "questions": len(cases[half:]),
        "answers": ANSWERS,
        "calibration": {"temperature": calibration.temperature, "low": calibration.low, "high": calibration.high},
        "verifier_facts_per_s": round(len(calibration.figures["logits"]) / calibrating_s, 1),
        "rows": rows,
    }


def _figures(
    judgements: Sequence[Judgement],
    judge: _RuleJudge,
    full: Sequence[Judgement],
    full_judge: _RuleJudge,
    cases: Sequence[AnsweredQuestion],
    recipe: Recipe,
) -> dict[str, Any]:
    """Calls to the judge and their size, and agreement with the full judge."""
    support, full_support = judge.calls["support"], full_judge.calls["support"]
    same_pairs = 0
    for case in cases:
        pairs = [choice_of(pair_of(case, _of(case, way), recipe)) for way in (judgements, full)]
        same_pairs += pairs[0] == pairs[1]
    figures: dict[str, Any] = {
        "calls": judge.calls.total(),
        "support_calls": support,
        "calls_share": round(judge.calls.total() / full_judge.calls.total(), 3),
        "support_calls_share": round(support / full_support, 3),
        "prompt_characters_share": round(judge.characters / full_judge.characters, 3),
        "pairs_as_full": round(same_pairs / len(cases), 3),
    }
    tally = VerdictAgreement()
    truth = _supports(full)
    by_question: dict[str, list[tuple[float, float]]] = {}
    for key, value in _supports(judgements).items():
        by_question.setdefault(key[0], []).append((value, truth[key]))
    for pairs in by_question.values():
        tally.add("verdicts", pairs)
    verdicts = tally.figures()["verdicts"]
    return {
        **figures,
        "verdicts": verdicts["n"],
        "agreement": verdicts["agreement"],
        "kappa": verdicts["kappa"]["value"],
    }


def _of(case: AnsweredQuestion, judgements: Sequence[Judgement]) -> list[Judgement]:
    return [judgement for judgement in judgements if judgement.example_id == case.example.example_id]


def _supports(judgements: Sequence[Judgement]) -> dict[tuple[str, str], float]:
    """The verdicts on facts, by question and fact."""
    supports = {}
    for judgement in judgements:
        for fact in json.loads(judgement.evidence).get("facts", ()):
            if fact["support"] is not None:
                supports[judgement.example_id, fact["text"]] = fact["support"]
    return supports


def _calibrate(cases: Sequence[AnsweredQuestion], judgements: Sequence[Judgement], settings: VerifierSettings) -> Any:
    """The verifier's calibration on the judge's verdicts; `figures` has the numbers."""
    contexts = {case.example.example_id: case.context.text for case in cases}
    statements, supports = [], []
    for judgement in judgements:
        context = contexts[judgement.example_id]
        for fact in json.loads(judgement.evidence).get("facts", ()):
            if fact["support"] is not None and not fact["shared"]:
                passages = "\n\n".join(context[start:end].strip() for start, end in fact["passages"])
                statements.append(Statement(passages, fact["text"]))
                supports.append(fact["support"])
    logits = [0.0 if number is None else number for number in local_numbers(statements, settings)]
    return replace(fit_calibration(logits, supports, settings.identity()), figures={"logits": logits})


def _judge(
    cases: Sequence[AnsweredQuestion], recipe: Recipe, ledger: Ledger | None = None
) -> tuple[list[Judgement], _RuleJudge]:
    judge = _RuleJudge()
    embedder = Embedder(lambda texts: np.array([stub_embedding(text, _DIMENSIONS) for text in texts], np.float32))
    scoring = ScoringContext(lambda: embedder, None, recipe, cast(ModelClient, judge), ledger=ledger)
    return score_answers(list(cases), parse_scorers(recipe), scoring), judge


def _case(number: int) -> AnsweredQuestion:
    """A question about a world of its own, with answers that have the world's faults."""
    rng = random.Random(f"verifying:{number}")
    docs, questions = context_and_questions(rng, DOCUMENTS, 4, 24)
    question, text = questions[0], render(docs)
    context = Context(text_id(text), text, len(text) // 4, (0,), (len(text),), ("",))
    example = Example(f"world-{number:03d}", question.question, context.context_id, question.answers, "", "en", "{}")
    answers = []
    for index in range(ANSWERS):
        answer = faulty_answer(rng, question, questions[1:], docs)
        answers.append(Answer(example.example_id, index, answer, "stop", 1, 1, "", ""))
    return AnsweredQuestion(example, context, tuple(answers))


def _recipe(store: str, *, prune: bool, verifier: dict[str, Any] | None = None) -> Recipe:
    model = {"name": "rule-based", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:9/v1"]}
    faithfulness: dict[str, Any] = {"scorer": "faithfulness"}
    if verifier is not None:
        faithfulness["verifier"] = verifier
    return parse_recipe(
        {
            "name": "bench",
            "store": store,
            "questions": {"source": "none"},
            "policy": model,
            "judge": model | {"prompts": "terse", "structured": "never"},
            "scoring": {"scorers": [{"scorer": "helpfulness"}, {"scorer": "logicality"}, faithfulness], "prune": prune},
            "pairing": {"rule": "best_vs_worst", "min_scored": 4},
            "dataset": {"name": "bench", "licence": "cc0-1.0"},
        }
    )

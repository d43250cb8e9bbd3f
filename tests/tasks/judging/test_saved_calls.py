"""What was saved is told from the evidence alone, and is what would have been asked otherwise."""

import json
from typing import Any

from infra.models.client import Request
from tasks.judging.pruning import PRUNED, saved_calls
from tasks.records.example import Judgement
from tasks.scoring import parse_scorers
from tasks.scoring.run import score_answers
from tests.support.scripted_judge import ScriptedJudge, case_of, inside, judged_recipe, scoring_with


def judgement(score: float | None, evidence: dict[str, Any]) -> Judgement:
    return Judgement("e", 0, "any", score, None if score is not None else PRUNED, json.dumps(evidence), ())


def fact(reason: str | None, shared: bool) -> dict[str, Any]:
    return {"text": "t", "support": None if reason else 1.0, "reason": reason, "shared": shared}


def test_shared_and_pruned_verdicts_are_counted_by_fact() -> None:
    facts = [fact(None, False), fact(None, True), fact(PRUNED, False), fact("no_label", False), fact(PRUNED, False)]
    judgements = [judgement(None, {"facts": facts}), judgement(5.0, {"facts": [fact(None, True)]})]
    assert saved_calls(judgements) == {"shared": 2, "pruned": 2}


def test_other_scorers_save_nothing() -> None:
    assert saved_calls([judgement(5.0, {"rating": 5}), judgement(None, {})]) == {"shared": 0, "pruned": 0}


def test_saved_and_made_calls_add_up_to_the_methods_own() -> None:
    def says(request: Request) -> str:
        text = inside(request, "statement") if request.kind == "support" else inside(request, "answer")
        quality = int(text.split()[1])
        if request.kind == "facts":
            own = [f"Answer {quality} has fact {number}." for number in range(12)]
            common = [f"Answers 5 to all share {number}." for number in range(3)]
            return "\n".join(f"<statement>{each}</statement>" for each in [*common, *own])
        if request.kind == "support":
            return "[[Fully supported]]" if int(text.split()[-1].rstrip(".")) < quality else "[[No support]]"
        return f"[[{quality}]]"

    recipe = judged_recipe({"scorer": "helpfulness", "weight": 3.0}, {"scorer": "faithfulness"})
    judge = ScriptedJudge(says)
    case = case_of(*(f"Answer {quality} speaks." for quality in range(10)))
    saved = saved_calls(score_answers([case], parse_scorers(recipe), scoring_with(judge, recipe)))
    assert saved["pruned"] > 0
    assert saved["shared"] >= 3
    assert judge.calls["support"] + saved["shared"] + saved["pruned"] == 10 * 15


def test_all_facts_of_a_call_but_the_first_are_batched_unless_shared() -> None:
    facts = [
        {**fact(None, shared), "number": number} for number, shared in ((1, False), (2, False), (3, False), (4, True))
    ]
    assert saved_calls([judgement(5.0, {"facts": facts})]) == {"shared": 1, "pruned": 0, "batched": 2}

"""The checks in their order: what each drops, and that a question which is dropped costs no further call."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infra.models.client import Failure, Request
from tasks.asking.checks import Candidate, Checks
from tasks.asking.recipes import asking_half
from tasks.judging.context import ScoringContext
from tasks.scoring.run import InThread, run_to_end
from tests.support.asking import asking_recipe, intended_question
from tests.support.recipes_for_scoring import no_embedder
from tests.support.scripted_judge import ScriptedJudge, inside, prompt_of

KEEPER = "Its first keeper was Jonas Wiik."
BUILT = "Brolin had built the lighthouse of Vadum before."
FACT = {"question": "Who was the first keeper of Vadum's lighthouse?", "answer": "Jonas Wiik", "proof": [KEEPER]}
HOPS = {
    "question": "Who was the first keeper of the lighthouse that Ada Brolin had built?",
    "answer": "Jonas Wiik",
    "proof": [BUILT, KEEPER],
}


class Model:
    """One stub for all sections: what it says to each step is set by name."""

    def __init__(self, draft: Any, **replies: Any) -> None:
        self.draft = draft
        self.replies = replies
        self.stub = ScriptedJudge(self.says)

    def says(self, request: Request) -> str | Failure:
        reply = self.replies.get(request.kind)
        if request.kind == "write":
            return reply or (self.draft if isinstance(self.draft, str) else json.dumps(self.draft))
        if callable(reply):
            reply = reply(request)
        if isinstance(reply, Failure):
            return reply
        defaults = {"self_contained": "[[True]]", "same_answer": "[[False]]", "closed_book": "[[Unknown]]"}
        if reply is not None:
            return str(reply)
        if request.kind in defaults:
            return defaults[request.kind]
        needed = self.draft.get("proof", []) if isinstance(self.draft, dict) else []
        stated = needed and all(sentence in prompt_of(request) for sentence in needed)
        return str(self.draft["answer"]) if stated else "[[Not stated]]"


def asked(tmp_path: Path, model: Model, kind: str = "single_fact", **asking: Any) -> tuple[Candidate, Counter[str]]:
    recipe = asking_half(asking_recipe(tmp_path, asking=asking))
    assert recipe.asking is not None
    stub: Any = model.stub
    scoring = ScoringContext(no_embedder, stub, recipe, stub, strong=stub)
    candidate = Candidate(intended_question(kind))
    run_to_end(Checks(recipe.asking, scoring).work([candidate]), InThread(scoring))
    return candidate, model.stub.calls


def test_a_good_question_passes_all_checks(tmp_path: Path) -> None:
    candidate, calls = asked(tmp_path, Model(FACT))
    assert candidate.drop is None
    assert calls == {"write": 1, "self_contained": 1, "closed_book": 3, "from_proof": 1, "answer": 3, "try": 4}
    assert [judgement.scorer for judgement in candidate.judgements] == [
        "write",
        "wording",
        "proof",
        "kind",
        "self_contained",
        "closed_book",
        "from_proof",
        "answer",
    ]
    assert (candidate.difficulty, candidate.tries) == (0.0, 4)
    assert [span["sentence"] for span in candidate.evidence] == [KEEPER]


@pytest.mark.parametrize(
    ("model", "reason", "last_step"),
    [
        (Model("No question today."), "no_question", "write"),
        (Model({"question": None}), "declined", "write"),
        (Model(FACT | {"question": "According to the text, who was the first keeper?"}), "points_at_text", "write"),
        (Model(FACT | {"proof": ["The first keeper was Jonas Wiik."]}), "proof_not_verbatim", "write"),
        (Model(FACT, self_contained="[[False]]"), "not_self_contained", "self_contained"),
        (Model(FACT, self_contained="Perhaps."), "no_verdict", "self_contained"),
        (Model(FACT, closed_book="Jonas Wiik"), "answered_closed_book", "closed_book"),
        (Model(FACT, from_proof="Emil Roth"), "not_answered_from_proof", "same_answer"),
        (Model(FACT, from_proof="[[Not stated]]"), "not_answered_from_proof", "from_proof"),
        (Model(FACT, answer="Emil Roth"), "answers_differ", "same_answer"),
    ],
)
def test_a_faulty_question_is_dropped_with_its_reason_and_costs_no_further_call(
    tmp_path: Path, model: Model, reason: str, last_step: str
) -> None:
    candidate, calls = asked(tmp_path, model)
    assert candidate.drop is not None
    assert (candidate.drop.stage, candidate.drop.reason) == ("ask", reason)
    order = ["write", "self_contained", "closed_book", "from_proof", "same_answer", "answer", "try"]
    assert set(calls) <= set(order[: order.index(last_step) + 2])
    assert "try" not in calls
    assert candidate.judgements[-1].score == 0.0


def test_a_multi_hop_question_needs_each_of_its_sentences(tmp_path: Path) -> None:
    candidate, calls = asked(tmp_path, Model(HOPS), "multi_hop")
    assert candidate.drop is None
    assert calls["without_sentence"] == 2
    spare = Model(
        HOPS, without_sentence=lambda request: "Jonas Wiik" if KEEPER in prompt_of(request) else "[[Unknown]]"
    )
    candidate, calls = asked(tmp_path, spare, "multi_hop")
    assert candidate.drop is not None
    assert candidate.drop.reason == "answered_without_sentence"
    assert BUILT in candidate.drop.detail
    assert "answer" not in calls


def test_a_multi_hop_question_with_one_sentence_is_dropped_before_any_check_is_paid(tmp_path: Path) -> None:
    candidate, calls = asked(tmp_path, Model(FACT), "multi_hop")
    assert candidate.drop is not None
    assert candidate.drop.reason == "fails_kind_test"
    assert calls == {"write": 1}


def test_an_unanswerable_question_must_stay_unanswered(tmp_path: Path) -> None:
    draft = {"question": "In which year was Jonas Wiik of Vadum born?"}
    candidate, calls = asked(tmp_path, Model(draft), "unanswerable")
    assert candidate.drop is None
    assert calls == {"write": 1, "self_contained": 1, "answer": 3, "try": 4}
    candidate, _ = asked(tmp_path, Model(draft, answer="1850"), "unanswerable")
    assert candidate.drop is not None
    assert candidate.drop.reason == "answers_differ"


def test_half_of_the_tries_decide(tmp_path: Path) -> None:
    def every_second(request: Request) -> str:
        return "Jonas Wiik" if request.parameters["seed"] % 2 else "[[Unknown]]"

    candidate, _ = asked(tmp_path, Model(FACT, closed_book=every_second), checks={"closed_book": 40})
    evidence = json.loads(candidate.judgements[5].evidence)
    assert evidence["tries"] == 40
    assert (candidate.drop is not None) == (evidence["right"] >= 20)


def test_the_difficulty_is_the_share_of_the_policys_tries_that_fail(tmp_path: Path) -> None:
    numbers = iter(range(8))
    model = Model(FACT, **{"try": lambda request: "Jonas Wiik" if next(numbers) < 2 else "Emil Roth"})
    candidate, _ = asked(tmp_path, model, tries=8)
    assert candidate.drop is None
    assert candidate.difficulty == 0.75


def test_other_words_for_the_same_answer_are_settled_by_a_call(tmp_path: Path) -> None:
    same = {"answer": "The man named Wiik, first name Jonas", "same_answer": "[[True]]"}
    candidate, calls = asked(tmp_path, Model(FACT, **same), checks={"same_answer": "judge"})
    assert candidate.drop is None
    other = Model(FACT, **(same | {"answer": "The keeper before him"}))
    candidate, calls = asked(tmp_path, other, checks={"same_answer": "rules"})
    assert candidate.drop is not None
    assert "same_answer" not in calls


def test_checks_can_be_left_out(tmp_path: Path) -> None:
    off = {"self_contained": False, "closed_book": 0, "from_proof": False, "answers": 0}
    candidate, calls = asked(tmp_path, Model(FACT), checks=off, tries=0)
    assert candidate.drop is None
    assert calls == {"write": 1}
    assert candidate.difficulty is None


def test_a_refused_check_is_a_fault_and_not_a_verdict(tmp_path: Path) -> None:
    refusal = Failure("", "content_filter", "filtered", True)
    candidate, _ = asked(tmp_path, Model(FACT, from_proof=lambda request: refusal))
    assert candidate.drop is not None
    assert candidate.drop.reason == "no_verdict"


def test_each_section_gets_its_calls(tmp_path: Path) -> None:
    recipe = asking_half(
        asking_recipe(
            tmp_path,
            strong={"name": "large", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:9/v1"]},
            asking={"model": "strong", "answerer": "judge"},
        )
    )
    assert recipe.asking is not None
    policy, judge, strong = (Model(FACT) for _ in range(3))
    stubs: list[Any] = [policy.stub, judge.stub, strong.stub]
    scoring = ScoringContext(no_embedder, stubs[0], recipe, stubs[1], strong=stubs[2])
    run_to_end(Checks(recipe.asking, scoring).work([Candidate(intended_question("single_fact"))]), InThread(scoring))
    assert policy.stub.calls == {"closed_book": 3, "try": 4}
    assert judge.stub.calls == {"self_contained": 1, "from_proof": 1, "answer": 3}
    assert strong.stub.calls == {"write": 1}
    assert inside(judge.stub.asked[0], "question") == FACT["question"]

"""Questions about histories: spans are whole turns, proof names turn and role, and rows hold the messages."""

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infra.recipe import Documents, Recipe
from infra.store import open_store
from tasks.asking.checks import Candidate, Checks
from tasks.asking.kind import QuestionKind, known_kinds
from tasks.asking.planning import fitting_kinds, make_asking_plan
from tasks.asking.proof import find_proof
from tasks.asking.publishing import HISTORY_ROWS, question_row
from tasks.asking.recipes import asking_half
from tasks.asking.spans import Lengths, choose_spans, cut_parts
from tasks.asking.wording import points_at_text
from tasks.asking.writing import IntendedQuestion, read_draft
from tasks.documents import SourceDocument, read_documents
from tasks.documents.histories import turns_of
from tasks.judging.context import ScoringContext
from tasks.prompts import load_prompt
from tasks.questions import read_questions
from tasks.records.example import Drop
from tasks.records.plan import load_shard
from tasks.records.product import HISTORIES, ROWS
from tasks.records.question import WrittenQuestion
from tasks.scoring.run import InThread, run_to_end
from tests.support.asking import asking_recipe
from tests.support.recipes_for_scoring import no_embedder
from tests.support.scripted_judge import ScriptedJudge

KINDS = ("decision", "change", "unanswered", "failure_cause")
TURNS = [
    ("user", "We have two offers for the Lisbon office of Corvane, Rua Augusta and the old mill."),
    ("assistant", "Rua Augusta costs 4,200 euros a month.\n\nThe mill costs 3,100 euros."),
    ("user", "Then we take Rua Augusta for the Lisbon office of Corvane. Does the movers' contract cover insurance?"),
    ("assistant", "Noted: Corvane rents Rua Augusta."),
    ("user", "We change it: the Lisbon office of Corvane moves into the old mill."),
    ("assistant", "Noted: the Lisbon office moves into the old mill."),
]
MESSAGES = [{"role": role, "content": content} for role, content in TURNS]
ROWS_OF_FORMATS: dict[str, dict[str, Any]] = {
    "messages": {"id": "m", "messages": MESSAGES},
    "sessions": {"id": "s", "sessions": [{"time": "1 May", "messages": MESSAGES[:4]}, {"messages": MESSAGES[4:]}]},
    "longmemeval": {
        "question_id": "l",
        "question": "q",
        "answer": "a",
        "haystack_sessions": [MESSAGES[:4], MESSAGES[4:]],
        "haystack_dates": ["1 May", "2 May"],
        "haystack_session_ids": ["a", "b"],
    },
    "locomo": {
        "sample_id": "c",
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Ben",
            "session_1_date_time": "1 May",
            "session_1": [
                {"speaker": "Ann" if role == "user" else "Ben", "dia_id": f"D1:{number}", "text": content}
                for number, (role, content) in enumerate(TURNS, 1)
            ],
        },
        "qa": [],
    },
}


def documents_of(folder: Path, *rows: dict[str, Any]) -> list[SourceDocument]:
    path = folder / "histories.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcomes = list(read_documents(Documents(source=str(path), min_characters=50, near_duplicates=None), processes=1))
    assert not [outcome for outcome in outcomes if isinstance(outcome, Drop)]
    return [outcome for outcome in outcomes if isinstance(outcome, SourceDocument)]


@pytest.mark.parametrize("name", ROWS_OF_FORMATS)
def test_rows_of_chat_messages_are_documents_whose_turns_are_known(tmp_path: Path, name: str) -> None:
    (document,) = documents_of(tmp_path, ROWS_OF_FORMATS[name])
    turns = turns_of(document)
    assert [turn.role for turn in turns] == [role for role, _ in TURNS]
    for turn, (_, content) in zip(turns, TURNS, strict=True):
        assert document.text[turn.start : turn.end].endswith(content)
        assert document.text[turn.heading : turn.start] == f"[{turn.number}] {turn.role}: "
    if name != "messages":
        assert "1 May" in document.text


def test_a_text_is_no_history_and_a_row_with_a_text_column_is_that_text(tmp_path: Path) -> None:
    (document,) = documents_of(tmp_path, {"text": "A mill stood by the river for two hundred years or more."})
    assert turns_of(document) == ()
    (document,) = documents_of(tmp_path, {"text": "The summary of a chat, of its own." * 3, "messages": MESSAGES})
    assert turns_of(document) == ()


def test_spans_and_parts_of_a_history_begin_and_end_with_turns(tmp_path: Path) -> None:
    messages = [{"role": role, "content": f"{number}: {content}"} for number in range(30) for role, content in TURNS]
    (document,) = documents_of(tmp_path, {"messages": messages})
    turns = [(turn.heading, turn.end) for turn in turns_of(document)]
    starts, ends = {start for start, _ in turns}, {end for _, end in turns}
    parts = cut_parts(document.text, 3000, turns)
    assert len(parts) > 3
    assert all(start in starts and end in ends for start, end in parts)
    for source in ("one", "long", "apart"):
        for seed in range(20):
            spans = choose_spans(document.text, source, Lengths(100, 900, 3000), random.Random(seed), turns)  # type: ignore[arg-type]
            assert spans
            assert all(start in starts and end in ends for start, end in spans)


def test_kinds_for_histories_are_asked_about_histories_alone() -> None:
    shares: list[tuple[QuestionKind, float]] = [(known_kinds()["single_fact"], 0.5), (known_kinds()["decision"], 0.5)]
    assert fitting_kinds(shares, True) is shares
    assert [(kind.name, share) for kind, share in fitting_kinds(shares, False)] == [("single_fact", 1.0)]
    assert fitting_kinds(shares[1:], False) == []


def history_recipe(folder: Path, kinds: dict[str, float], **asking: Any) -> Recipe:
    (folder / "documents").mkdir(exist_ok=True)
    (folder / "documents" / "chats.jsonl").write_text(json.dumps(ROWS_OF_FORMATS["sessions"]) + "\n")
    (folder / "documents" / "mill.txt").write_text("The mill of Arden was built by Ada Brolin in 1907. " * 8)
    return asking_half(
        asking_recipe(folder, asking={"kinds": kinds, "per_document": 2, "min_span_tokens": 32, **asking})
    )


def test_a_plan_says_that_it_has_histories_and_drops_what_no_kind_is_for(tmp_path: Path) -> None:
    recipe = history_recipe(tmp_path, {"decision": 1})
    plan = make_asking_plan(recipe, open_store(recipe.store))
    assert plan.rules == {ROWS: HISTORIES}
    assert plan.drop_counts == {"no_span": 1}
    examples, contexts = load_shard(open_store(recipe.store), plan, 0)
    intended = IntendedQuestion.of(examples[0], contexts[examples[0].context_id])
    (place,) = intended.places
    assert [turn.role for turn in place.turns] == [role for role, _ in TURNS]
    for turn, (_, content) in zip(place.turns, TURNS, strict=True):
        assert place.text[turn.start : turn.end].endswith(content)


CHANGE = {
    "question": "From which building to which was the Lisbon office of Corvane moved in the plan?",
    "answer": "from Rua Augusta to the old mill",
    "proof": ["Then we take Rua Augusta for the Lisbon office of Corvane.", TURNS[4][1]],
}


def checked(tmp_path: Path, kind: str, draft: dict[str, Any]) -> tuple[Candidate, Counter[str], Recipe]:
    recipe = history_recipe(tmp_path, {kind: 1})
    store = open_store(recipe.store)
    examples, contexts = load_shard(store, make_asking_plan(recipe, store), 0)
    candidate = Candidate(IntendedQuestion.of(examples[0], contexts[examples[0].context_id]))

    def says(request: Any) -> str:
        labels = {"self_contained": "[[True]]", "same_answer": "[[False]]", "closed_book": "[[Unknown]]"}
        if request.kind == "write":
            return json.dumps(draft)
        prompt = request.prompt.messages[-1]["content"]
        stated = all(sentence in prompt for sentence in draft["proof"])
        return labels.get(request.kind, draft["answer"] if stated else "[[Not stated]]")

    stub: Any = ScriptedJudge(says)
    assert recipe.asking is not None
    scoring = ScoringContext(no_embedder, stub, recipe, stub, strong=stub)
    run_to_end(Checks(recipe.asking, scoring).work([candidate]), InThread(scoring))
    return candidate, stub.calls, recipe


def test_the_proof_is_whole_turns_whose_number_and_role_the_row_names(tmp_path: Path) -> None:
    candidate, calls, recipe = checked(tmp_path, "change", CHANGE)
    assert candidate.drop is None
    assert calls["without_sentence"] == 2
    assert [span["sentence"] for span in candidate.evidence] == [TURNS[2][1], TURNS[4][1]]
    question = WrittenQuestion(
        "q",
        "c",
        CHANGE["question"],
        (CHANGE["answer"],),
        "change",
        "en",
        tuple(candidate.evidence),
        0.5,
        4,  # type: ignore[arg-type]
    )
    row = question_row(question, candidate.intended, recipe, "p")
    assert [(turn["turn"], turn["role"]) for turn in row["evidence"]] == [(3, "user"), (5, "user")]
    assert set(row) == set(HISTORY_ROWS.names)
    path = tmp_path / "published.jsonl"
    path.write_text(json.dumps(row) + "\n")
    questions = recipe.questions.model_copy(update={"source": str(path)})
    (read,) = read_questions(questions, "history")
    assert not isinstance(read, Drop)
    assert [session.supports for session in read.sessions] == [True, True]
    turns = [turn.text for session in read.sessions for turn in session.turns]
    assert turns[1:] == [content for _, content in TURNS[1:]]
    assert turns[0].endswith(TURNS[0][1])


def test_a_change_takes_two_turns(tmp_path: Path) -> None:
    one_turn = CHANGE | {"proof": ["Then we take Rua Augusta for the Lisbon office of Corvane.", "Does the movers'"]}
    candidate, _, _ = checked(tmp_path, "change", one_turn)
    assert candidate.drop is not None
    assert candidate.drop.reason == "fails_kind_test"


def test_what_was_never_answered_is_not_asked_of_its_proof_alone(tmp_path: Path) -> None:
    draft = {
        "question": "What did the user ask about the movers' contract for the Lisbon office of Corvane in vain?",
        "answer": "whether it covers insurance",
        "proof": ["Does the movers' contract cover insurance?"],
    }
    candidate, calls, _ = checked(tmp_path, "unanswered", draft)
    assert candidate.drop is None
    assert calls["from_proof"] == 0
    assert calls["answer"] == 3


EXAMPLE = re.compile(r"<example>\n<document>\n(.*?)\n</document>\n\n(?:Reply:|答复：)\n(.*?)\n</example>", re.DOTALL)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", KINDS)
def test_the_examples_in_the_prompts_pass_the_checks_that_make_no_call(name: str, language: str) -> None:
    kind = known_kinds()[name]
    assert kind.histories
    (turns, reply), (_, declined) = EXAMPLE.findall(load_prompt(f"ask-full-{kind.prompt}", language).text)
    draft = read_draft(reply, kind)
    assert points_at_text(draft.question) is None
    evidence = find_proof(draft.proof, [turns], [(0, 0, len(turns))])
    assert isinstance(evidence, list)
    assert kind.test(draft, evidence) is None
    assert not read_draft(declined, kind).question

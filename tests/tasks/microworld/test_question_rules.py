"""The rules that write and answer questions on the generated world: what they write is proved, and answered so."""

import json

import pytest

from tasks.asking.kind import known_kinds
from tasks.asking.proof import find_proof
from tasks.asking.writing import read_draft
from tasks.microworld.question_rules import NOT_STATED, answer_question, is_self_contained, write_question
from tasks.microworld.world import make_world, write_documents

DOCUMENTS = [document.text for document in write_documents(make_world("rules", 16, "train"))]


@pytest.mark.parametrize("kind", ["single_fact", "multi_hop", "across_documents", "list"])
def test_what_is_written_is_proved_by_its_sentences_and_answered_from_them_alone(kind: str) -> None:
    draft = read_draft(write_question(kind, DOCUMENTS), known_kinds()[kind])
    assert draft.question
    evidence = find_proof(draft.proof, DOCUMENTS, [(place, 0, len(each)) for place, each in enumerate(DOCUMENTS)])
    assert not isinstance(evidence, str)
    assert known_kinds()[kind].test(draft, evidence) is None
    answer = answer_question(list(draft.proof), draft.question)
    assert known_kinds()[kind].same(draft.answers, answer)
    assert is_self_contained(draft.question) == "[[True]]"
    if known_kinds()[kind].needs_each:
        assert answer_question(list(draft.proof[1:]), draft.question) == NOT_STATED


def test_an_unanswerable_question_is_not_answered_by_its_documents() -> None:
    question = json.loads(write_question("unanswerable", DOCUMENTS[:3]))["question"]
    assert answer_question(DOCUMENTS[:3], question) == NOT_STATED


@pytest.mark.parametrize("kind", ["number", "timeline", "comparison", "summary_of_aspect"])
def test_what_the_world_does_not_have_is_declined(kind: str) -> None:
    assert json.loads(write_question(kind, DOCUMENTS)) == {"question": None}


def test_a_question_that_is_none_of_the_worlds_is_not_self_contained() -> None:
    assert is_self_contained("Where did he live?") == "[[False]]"

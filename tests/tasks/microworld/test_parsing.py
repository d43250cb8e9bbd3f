"""What must hold of parsing: every sentence, question and gold answer is read as what it was made from."""

from __future__ import annotations

import pytest

from tasks.microworld.parsing import (
    ParsedClaim,
    ParsedQuestion,
    kind_of,
    names_in,
    read_answer,
    read_claim,
    read_fact,
    read_facts,
    read_question,
)
from tasks.microworld.questions import LIST, SHARES_BY_HOPS, make_questions
from tasks.microworld.words import FILLER, LEADS, NAMES, RELATIONS
from tasks.microworld.world import Fact, make_world, write_documents

FIRST = {kind: words[0] for kind, words in NAMES.items()}


@pytest.mark.parametrize("people", [20, 60, 400])  # 400 people have names of two words
def test_a_document_states_the_facts_that_it_was_written_from(people: int) -> None:
    for document in write_documents(make_world(3, people)):
        assert set(read_facts(document.text)) == set(document.facts)


@pytest.mark.parametrize("people", [60, 400, 420])  # of the test split: companies of three words
def test_a_question_and_its_gold_answer_are_read_as_they_were_made(people: int) -> None:
    world = make_world(4, people, "test" if people > 400 else None)
    for question in make_questions(world, write_documents(world), 1, 120, SHARES_BY_HOPS[3]):
        parsed, answer = read_question(question.question), read_answer(question.reasoning)
        assert parsed is not None
        assert (answer.facts, answer.final) == (question.facts, question.answers)
        assert answer.has_answer_line and answer.is_complete
        assert parsed.is_list == (question.kind == LIST)
        if not parsed.is_list:
            assert parsed.about == question.facts[0].subject
            assert parsed.hops == tuple(fact.relation for fact in question.facts)


def test_no_two_templates_of_different_meaning_look_alike() -> None:
    for name, relation in RELATIONS.items():
        for template in (relation.sentence("{s}", "{v}"), *relation.statements, *relation.echoes):
            sentence = template.format(s=FIRST[relation.subject_kind], v=NAMES[relation.value_kind][1])
            assert read_fact(sentence) == Fact(FIRST[relation.subject_kind], name, NAMES[relation.value_kind][1])


def test_a_lead_changes_nothing_and_fillers_state_nothing() -> None:
    for lead in LEADS:
        assert read_fact(f"{lead} Abrtan lives in Dunvale.") == Fact("Abrtan", "home", "Dunvale")
    assert [read_fact(filler.format(s="Dunvale")) for filler in FILLER] == [None] * len(FILLER)


def test_a_sentence_with_a_name_of_the_wrong_kind_is_the_false_claim_that_it_is() -> None:
    assert read_fact("The mentor of Abrtan is potter.") == Fact("Abrtan", "mentor", "potter")
    assert read_fact("The home of is Dunvale.") is None
    assert read_fact("The home of Abrtan is Dunvale and Oakmoor.") is None


def test_claims_of_several_hops_are_read_in_their_canonical_words() -> None:
    longer = ParsedClaim("Hexalon", ("founder", "mentor", "home"), "Dunvale")
    assert longer.sentence == "The home of the mentor of the founder of Hexalon is Dunvale."
    assert read_claim(longer.sentence) == longer
    claim = ParsedClaim("Abrtan", ("mentor", "home"), "Dunvale")
    assert claim.sentence == "The home of the mentor of Abrtan is Dunvale."
    assert read_claim(claim.sentence) == claim
    assert read_claim("It is all very well.") is None


@pytest.mark.parametrize(
    ("question", "parsed"),
    [
        ("Where does Abrtan live?", ParsedQuestion("Abrtan", ("home",))),
        ("Who is the mentor of the author of Velmoriad?", ParsedQuestion("Velmoriad", ("author", "mentor"))),
        ("Who is the mentor of Velmoriad's author?", ParsedQuestion("Velmoriad", ("author", "mentor"))),
        (
            "Where does the mentor of the founder of Hexalon live?",
            ParsedQuestion("Hexalon", ("founder", "mentor", "home")),
        ),
        ("Who governs the home of Velmoriad's author?", ParsedQuestion("Velmoriad", ("author", "home", "mayor"))),
        ("Who governs the product of Velmoriad's author?", None),
        ("Name all who live in Dunvale.", ParsedQuestion("Dunvale", ("home",), is_list=True)),
        ("What does the text say about Abrtan?", ParsedQuestion("Abrtan", (), is_list=True)),
        ("What is the meaning of life?", None),
        ("Where does Abrtan of Dunvale live?", None),
    ],
)
def test_questions_are_read_or_refused(question: str, parsed: ParsedQuestion | None) -> None:
    assert read_question(question) == parsed


def test_the_final_answer_is_what_follows_the_last_answer_line() -> None:
    text = "Plan: find the mentor and then the home.\nThe mentor of Abrtan is Borlena.\nAnswer: A, Dunvale"
    answer = read_answer(text)
    assert (answer.final, answer.plan, answer.has_reasoning) == (("Dunvale",), ("mentor", "home"), True)
    short = read_answer("Dunvale and Oakmoor")
    assert (short.final, short.has_answer_line, short.has_reasoning) == (("Dunvale", "Oakmoor"), False, False)
    assert read_answer("Abrtan lives in Dunvale.").final == ()


@pytest.mark.parametrize("text", ["Answer: Dunvale and", "Answer: Dunvale,", "The home of\nAnswer: Dunvale"])
def test_an_answer_that_breaks_off_is_not_complete(text: str) -> None:
    assert not read_answer(text).is_complete


def test_a_name_has_the_kind_of_its_first_word() -> None:
    assert names_in("Abrtan, a potter of Dunvale; Nobody.") == ("Abrtan", "potter", "Dunvale")
    assert [kind_of(name) for name in ("Abrtan", "Dunvale Oakmoor", "potter", "Nobody", "")] == [
        "person",
        "place",
        "job",
        None,
        None,
    ]

"""What must hold of the rules: gold answers are praised, wrong and missing parts cost where they should."""

from __future__ import annotations

import random
import re

import pytest

from tasks.microworld import rules
from tasks.microworld.policy_lessons import render
from tasks.microworld.questions import (
    LIST,
    ONE_HOP,
    SHARES_BY_HOPS,
    THREE_HOP,
    TWO_HOP,
    Question,
    join_words,
    make_questions,
)
from tasks.microworld.words import NAMES, RELATIONS
from tasks.microworld.world import WorldDocument, make_world, write_documents

PART = (
    "Passage 1: Abrtan\nEveryone agrees that Abrtan was taught by Borlena. Abrtan lives in Dunvale.\n\n"
    "Passage 2: Borlena\nBy trade Borlena is a potter. Borlena has a house in Oakmoor."
)
TWO_HOPS = "Where does the mentor of Abrtan live?"
GOLD = (
    "Plan: find the mentor and then the home.\n"
    "The mentor of Abrtan is Borlena. The home of Borlena is Oakmoor.\nAnswer: Oakmoor"
)
WRONG_END = GOLD.replace("Oakmoor", "Lindwick")
WRONG_LINK = GOLD.replace("Borlena", "Caswyn")
LEAP = GOLD.replace("Answer: Oakmoor", "Answer: Lindwick")
THREE_HOPS = "Where does the mentor of the founder of Hexalon live?"
THREE_PART = f"{PART}\n\nPassage 3: Hexalon\nThe offices of Hexalon are in Dunvale. Abrtan founded Hexalon."
THREE_GOLD = (
    "Plan: find the founder and then the mentor and then the home.\nThe founder of Hexalon is Abrtan. "
    + (GOLD.partition("\n")[2])
)


def claims(question: str, answer: str) -> list[str]:
    return re.findall("<statement>(.*?)</statement>", rules.facts(question, answer))


def supports(question: str, answer: str, passages: str) -> list[str]:
    return [rules.support(passages, claim) for claim in claims(question, answer)]


@pytest.fixture(scope="module")
def questions() -> list[tuple[Question, str]]:
    """Questions of every kind, each with a context that holds its supports among others."""
    world = make_world(5, 60)
    docs = write_documents(world)
    rng = random.Random(1)
    cases = []
    for question in make_questions(world, docs, 2, 90, SHARES_BY_HOPS[3]):
        others = rng.sample(range(len(docs)), 8)
        context: list[WorldDocument] = [docs[index] for index in dict.fromkeys([*question.supports, *others])]
        cases.append((question, render(context)))
    assert {question.kind for question, _ in cases} == {ONE_HOP, TWO_HOP, THREE_HOP, LIST}
    return cases


def noted(context: str, question: str) -> str:
    """Notes on the context's passages, two at a time."""
    passages = context.split("\n\n")
    parts = ["\n\n".join(passages[start : start + 2]) for start in range(0, len(passages), 2)]
    return "\n".join(f"Part: {rules.notes(part, question)}" for part in parts).replace("Part: ", "")


def test_gold_answers_are_complete_faithful_helpful_and_logical(questions: list[tuple[Question, str]]) -> None:
    for question, context in questions:
        answer = question.reasoning
        assert rules.completeness(noted(context, question.question), question.question, answer) >= 9
        assert set(supports(question.question, answer, context)) == {rules.FULL}
        assert rules.helpfulness(question.question, answer) == 10
        assert rules.logicality(question.question, answer) == 10


def test_a_wrong_value_loses_support_and_completeness(questions: list[tuple[Question, str]]) -> None:
    for question, context in questions:
        wrong = Question(question.question, ("Nobody",), question.kind, question.facts, question.supports)
        last = question.facts[-1]
        other = next(
            name for name in NAMES[RELATIONS[last.relation].value_kind] if name not in context and name != last.value
        )
        answer = wrong.reasoning.replace(last.value, other).replace("Nobody", other)
        assert rules.NONE in supports(question.question, answer, context)
        assert rules.completeness(noted(context, question.question), question.question, answer) <= 5


def test_a_list_with_a_missing_item_loses_completeness(questions: list[tuple[Question, str]]) -> None:
    lists = [(question, context) for question, context in questions if question.kind == LIST]
    for question, context in lists:
        notes = noted(context, question.question)
        short = f"Answer: {join_words(question.answers[:-1])}"
        expected = 10 * (len(question.answers) - 1) / len(question.answers)
        assert rules.completeness(notes, question.question, short) == pytest.approx(expected)


def test_notes_hold_the_steps_that_a_part_can_know_of() -> None:
    assert rules.notes(PART, TWO_HOPS) == (
        "Everyone agrees that Abrtan was taught by Borlena.\nBorlena has a house in Oakmoor."
    )
    elsewhere = "Caswyn lives in Dunvale. By trade Caswyn is a baker."  # without the mentor, any home may be needed
    assert rules.notes(elsewhere, TWO_HOPS) == "Caswyn lives in Dunvale."
    assert rules.notes("Opinions about Abrtan differ.", TWO_HOPS) == rules.NO_NOTES
    assert rules.notes(PART, "Name all who live in Dunvale.") == "Abrtan lives in Dunvale."


def test_facts_are_self_contained_and_each_is_there_once() -> None:
    assert claims(TWO_HOPS, GOLD) == ["The mentor of Abrtan is Borlena.", "The home of Borlena is Oakmoor."]
    assert claims(TWO_HOPS, "Oakmoor") == ["The home of the mentor of Abrtan is Oakmoor."]
    assert claims("Who lives in Dunvale?", "Abrtan and Borlena") == [
        "The home of Abrtan is Dunvale.",
        "The home of Borlena is Dunvale.",
    ]
    assert claims("What does the text say about Abrtan?", "Answer: Dunvale, potter and wool") == [
        "The home of Abrtan is Dunvale.",
        "The job of Abrtan is potter.",
    ]
    assert rules.facts(TWO_HOPS, "The text does not say.") == rules.NO_FACTS


def test_support_chains_over_the_passages_and_knows_halves() -> None:
    composed = "The home of the mentor of Abrtan is Oakmoor."
    assert rules.support(PART, composed) == rules.FULL
    assert rules.support(PART, composed.replace("Oakmoor", "Dunvale")) == rules.NONE
    assert rules.support("Borlena has a house in Oakmoor.", composed) == rules.PARTIAL
    two_words = "The home of Abrtan is Dunvale Oakmoor."
    assert rules.support("Abrtan lives in Dunvale Lindwick.", two_words) == rules.PARTIAL
    assert rules.support(PART, "Nothing that the world could say.") == rules.NONE


def test_a_sentence_cut_by_two_chunks_in_a_row_is_read() -> None:
    assert (
        rules.support("Passage 1: Abrtan\nAbrtan lives\n\nin Dunvale.", "The home of Abrtan is Dunvale.") == rules.FULL
    )
    assert rules.support("Abrtan lives\n\nPassage 2: Dunvale", "The home of Abrtan is Dunvale.") == rules.NONE


def test_completeness_goes_by_steps() -> None:
    notes = rules.notes(PART, TWO_HOPS)
    ratings = [rules.completeness(notes, TWO_HOPS, answer) for answer in (GOLD, "Oakmoor", WRONG_LINK, WRONG_END)]
    assert ratings == [10, 10, 7, 3]
    assert rules.completeness(rules.NO_NOTES, TWO_HOPS, GOLD) == 0
    assert rules.completeness(rules.NO_NOTES, TWO_HOPS, "The text does not say.") == 10


def test_three_hops_are_noted_followed_and_rated_step_by_step() -> None:
    notes = rules.notes(THREE_PART, THREE_HOPS)
    assert notes == (
        "Everyone agrees that Abrtan was taught by Borlena.\nBorlena has a house in Oakmoor.\nAbrtan founded Hexalon."
    )
    assert claims(THREE_HOPS, "Oakmoor") == ["The home of the mentor of the founder of Hexalon is Oakmoor."]
    assert claims(THREE_HOPS, "The founder of Hexalon is Abrtan.\nAnswer: Oakmoor")[-1] == (
        "The home of the mentor of Abrtan is Oakmoor."
    )
    both_links = THREE_GOLD.replace(" The home of Borlena is Oakmoor.", "")
    assert claims(THREE_HOPS, both_links)[-1] == "The home of Borlena is Oakmoor."
    wrong_end = THREE_GOLD.replace("Oakmoor", "Lindwick")
    wrong_last_link = THREE_GOLD.replace("Borlena", "Caswyn")  # and the right end
    no_links = "The home of Borlena is Oakmoor.\nAnswer: Oakmoor"
    answers = (THREE_GOLD, "Oakmoor", no_links, wrong_last_link, wrong_end)
    ratings = [rules.completeness(notes, THREE_HOPS, answer) for answer in answers]
    assert ratings == pytest.approx([10, 10, 7, 8.5, 3])  # 7 for the end, 1.5 for each of the two steps before it
    part_way = "\n".join(notes.split("\n")[::2])  # the notes lack where Borlena lives
    assert rules.completeness(part_way, THREE_HOPS, wrong_end) == 10  # the answer has all that the notes have
    assert rules.completeness(part_way, THREE_HOPS, wrong_last_link) == 5


def test_notes_of_a_part_that_lacks_a_link_hold_all_that_may_be_needed() -> None:
    people = "Caswyn lives in Dunvale. By trade Caswyn is a baker. The mentor of Caswyn is Borlena."
    assert rules.notes(people, THREE_HOPS) == "Caswyn lives in Dunvale.\nThe mentor of Caswyn is Borlena."
    founded = f"Abrtan founded Hexalon. {people}"  # the founder's mentor is not stated: any home may be his
    assert rules.notes(founded, THREE_HOPS) == "Abrtan founded Hexalon.\nCaswyn lives in Dunvale."


def test_support_and_logicality_follow_three_hops() -> None:
    composed = "The home of the mentor of the founder of Hexalon is Oakmoor."
    assert rules.support(THREE_PART, composed) == rules.FULL
    assert rules.support(THREE_PART, composed.replace("Oakmoor", "Dunvale")) == rules.NONE
    assert rules.support(PART, composed) == rules.PARTIAL
    broken = THREE_GOLD.replace("The home of Borlena", "The home of Caswyn")
    short_plan = THREE_GOLD.replace(" and then the home", "")
    leap = THREE_GOLD.replace("Answer: Oakmoor", "Answer: Lindwick")
    ratings = [rules.logicality(THREE_HOPS, answer) for answer in (THREE_GOLD, broken, short_plan, leap, "Oakmoor")]
    assert ratings == [10, 7, 9, 6, 7]


def test_logicality_sees_leaps_broken_chains_and_contradictions() -> None:
    contradicts = GOLD.replace("\nAnswer", " The home of Borlena is Dunvale.\nAnswer")
    broken = GOLD.replace("The home of Borlena", "The home of Caswyn")
    ratings = [rules.logicality(TWO_HOPS, answer) for answer in (GOLD, contradicts, broken, LEAP, "Oakmoor", "Hm.")]
    assert ratings == [10, 7, 7, 6, 7, 2]
    assert rules.logicality(TWO_HOPS, WRONG_LINK) == 10  # it is wrong, but it holds together


def test_helpfulness_looks_at_form_kind_and_subject_alone() -> None:
    answers = [GOLD, WRONG_END, "Oakmoor", "Answer: potter", GOLD.rpartition("\n")[0], "The text does not say.", ""]
    assert [rules.helpfulness(TWO_HOPS, answer) for answer in answers] == [10, 10, 8, 2, 3, 1, 0]
    assert rules.helpfulness("Name all who live in Dunvale.", "Answer: Abrtan and Abrtan") < 8


def test_the_better_answer_wins_whatever_its_place() -> None:
    assert rules.pairwise(TWO_HOPS, GOLD, LEAP) == "[[A]]"
    assert rules.pairwise(TWO_HOPS, LEAP, GOLD) == "[[B]]"
    assert rules.pairwise(TWO_HOPS, GOLD, GOLD) == "[[C]]"
    assert rules.self_evaluation(PART, TWO_HOPS, GOLD) == 10 > rules.self_evaluation(PART, TWO_HOPS, WRONG_END)


def test_questions_of_another_world_get_ratings_on_the_scale() -> None:
    for rule in (rules.helpfulness, rules.logicality, rules.quality):
        assert 0 <= rule("Why?", "Because.") <= 10
    assert 0 <= rules.completeness("Some notes.", "Why?", "Because.") <= 10
    assert rules.notes("Some text.", "Why?") == rules.NO_NOTES

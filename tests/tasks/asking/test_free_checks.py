"""The checks that make no call: wording, proof, the kinds' own tests; and what tells two answers apart."""

import pytest

from tasks.asking.kind import Draft, known_kinds
from tasks.asking.matching import numbers_in, same_items, same_number, same_order, same_summary, same_text
from tasks.asking.proof import find_proof
from tasks.asking.wording import points_at_text
from tasks.library import library_questions
from tests.support.asking import PIER

WHOLE = ((0, 0, len(PIER)),)


@pytest.mark.parametrize(
    "question",
    [
        "According to the text, who drew the plans?",
        "What does the second paragraph say about the pier?",
        "Which of the cities mentioned above is the oldest?",
        "What does this document conclude?",
        "What is the main idea of the passage?",
        "When was it built?",
        "What did the author of Tessin mention in the article?",
        "本文提到了哪三位发言者？",
        "根据材料，码头何时建成？",
        "上述三座水库中哪一座最大？",
        "作者认为原因是什么？",
    ],
)
def test_a_question_that_points_at_a_text_is_seen(question: str) -> None:
    assert points_at_text(question) is not None


@pytest.mark.parametrize(
    "question",
    [
        "Who is the author of Briskionde?",
        "How old was Rembrandt when he died?",
        "How many years after his death were the remains of Béla Bartók brought to Budapest?",
        "Which section of the Danube is called the Iron Gates?",
        "李清照在哪篇文章里主张词“别是一家”？",
    ],
)
def test_a_question_that_names_its_matter_passes(question: str) -> None:
    assert points_at_text(question) is None


def test_the_rules_of_wording_lose_no_question_of_the_library() -> None:
    for language in ("en", "zh"):
        lost = [each.question for each in library_questions(language) if points_at_text(each.question)]
        assert lost == []


def test_a_proof_has_exact_offsets_and_only_blanks_may_differ() -> None:
    proof = ["It cost  312,000\ncrowns.", "Its first keeper was Jonas Wiik."]
    evidence = find_proof(proof, [PIER], WHOLE)
    assert not isinstance(evidence, str)
    assert [span["sentence"] for span in evidence] == ["Its first keeper was Jonas Wiik.", "It cost 312,000 crowns."]
    for span in evidence:
        assert PIER[span["start"] : span["end"]] == span["sentence"]


@pytest.mark.parametrize("sentence", ["It cost 312,000 crown.", "It cost 312.000 crowns.", "It was cheap.", "crowns."])
def test_a_sentence_with_one_other_character_is_no_proof(sentence: str) -> None:
    assert find_proof([sentence], [PIER], WHOLE) == sentence


def test_a_proof_from_outside_the_passages_is_none() -> None:
    first = PIER.index("\n\n")
    assert find_proof(["It cost 312,000 crowns."], [PIER], ((0, 0, first),)) == "It cost 312,000 crowns."


def test_quoting_of_a_prompt_does_not_hide_a_proof() -> None:
    text = "The tag <answer> is written in [[two]] brackets here."
    evidence = find_proof(["The tag ‹answer> is written in [ [two] ] brackets here."], [text], ((0, 0, len(text)),))
    assert not isinstance(evidence, str)
    assert evidence[0]["sentence"] == text


def test_sentences_of_two_documents_are_found_in_their_own() -> None:
    other = "Vadum lies nine hours from Tessin by boat."
    spans = ((0, 0, len(PIER)), (1, 0, len(other)))
    evidence = find_proof([other, "Its first keeper was Jonas Wiik."], [PIER, other], spans)
    assert not isinstance(evidence, str)
    assert [span["document"] for span in evidence] == [0, 1]


def fault_of(kind: str, answers: tuple[str, ...], proof: list[str]) -> str | None:
    evidence = find_proof(proof, [PIER], WHOLE)
    assert not isinstance(evidence, str)
    return known_kinds()[kind].test(Draft("Q?", answers, tuple(proof)), evidence)


SPEAKERS = "Emil Roth, Karin Lund and Per Holm spoke that day."
FOURTH = "In 1912 a fourth speaker, Anna Berg, was honoured for the speech that she could not hold."
KEEPER, PLANS = "Its first keeper was Jonas Wiik.", "The plans of the Tessin pier were drawn by Ada Brolin in 1907."


@pytest.mark.parametrize(
    ("kind", "answers", "proof", "passes"),
    [
        ("single_fact", ("Jonas Wiik",), [KEEPER], True),
        ("multi_hop", ("Jonas Wiik",), [KEEPER], False),
        ("multi_hop", ("Jonas Wiik",), [KEEPER, PLANS], True),
        ("across_documents", ("Jonas Wiik",), [KEEPER, PLANS], False),
        ("list", ("Emil Roth", "Karin Lund", "Anna Berg"), [SPEAKERS, FOURTH], True),
        ("list", ("Emil Roth", "Karin Lund", "Per Holm"), [SPEAKERS], False),
        ("list", ("Emil Roth", "Anna Berg"), [SPEAKERS, FOURTH], False),
        ("list", ("Emil Roth", "Anna Berg", "Ada Brolin"), [SPEAKERS, FOURTH], False),
        ("comparison", ("1907",), [PLANS], False),
        ("number", ("312,000 crowns",), ["It cost 312,000 crowns."], True),
        ("number", ("many crowns",), ["It cost 312,000 crowns."], False),
        ("number", ("312,000 crowns",), [KEEPER], False),
        ("timeline", ("plans", "opening", "honours"), [PLANS, FOURTH], True),
        ("timeline", ("plans", "opening"), [PLANS, FOURTH], False),
        ("summary_of_aspect", ("Too short.",), [PLANS, FOURTH, SPEAKERS], False),
        ("summary_of_aspect", ("one two three four five six seven eight " * 2,), [PLANS, FOURTH, SPEAKERS], True),
        ("summary_of_aspect", ("one two three four five six seven eight " * 2,), [PLANS, FOURTH], False),
    ],
)
def test_each_kind_has_its_own_test(kind: str, answers: tuple[str, ...], proof: list[str], passes: bool) -> None:
    assert (fault_of(kind, answers, proof) is None) == passes


def test_answers_are_compared_by_what_their_kind_asks_for() -> None:
    assert same_text(["Ada Brolin"], "The plans were drawn by Ada Brolin.")
    assert same_text(["in the year 1907"], "Answer: 1907") is False
    assert same_text(["Sir George Murray"], "George Murray")
    assert not same_text(["Ada Brolin"], "Carl Emmer")
    assert not same_text(["12 May of the year 1911"], "14 May of the year 1911")
    assert same_text(["在原粮站旧址"], "原粮站旧址")
    assert not same_text(["石门水文站"], "红门水文站")
    assert same_items(["Roth", "Lund"], "Lund and Roth")
    assert not same_items(["Roth", "Lund"], "Roth")
    assert same_order(["begun", "finished"], "First begun, then finished.")
    assert not same_order(["begun", "finished"], "finished, begun")
    assert same_number(["312,000 crowns"], "It cost 312000 crowns.")
    assert not same_number(["5 points"], "15 points")
    assert same_number(["five"], "five")
    assert same_summary(["Roth, Lund and Holm spoke at the opening"], "At the opening Roth, Lund and Holm spoke.")
    assert not same_summary(["Roth, Lund and Holm spoke at the opening"], "The pier was expensive.")


def test_numbers_are_read_with_separators_and_signs() -> None:
    assert numbers_in("from -3 to 1,230.5 and 14%") == [-3.0, 1230.5, 14.0]

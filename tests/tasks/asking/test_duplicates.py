"""Questions that repeat another: decided in the order of their ids, whatever the order of shards."""

import random

from tasks.asking.duplicates import QuestionText, find_repeats, without_repeats

TEXTS = [
    QuestionText("a", "Who built the mill of Arden?", ("Ada Brolin",)),
    QuestionText("b", "who built the mill of arden", ("Somebody else",)),
    QuestionText("c", "Who was it that built the old mill of the town of Arden in 1850?", ("Ada Brolin",)),
    QuestionText("d", "Who was it who built the old mill of the town of Arden in 1850?", ("by Ada Brolin",)),
    QuestionText("e", "Who was it who built the old mill of the town of Arden in 1851?", ("Ada Brolin",)),
    QuestionText("f", "Who was it who sold the old mill of the town of Arden in 1850?", ("Carl Emmer",)),
    QuestionText("g", "阿登镇的老磨坊是谁建造的？", ("布罗林",)),
    QuestionText("h", "阿登镇的老磨坊是由谁建造的？", ("布罗林",)),
]


def test_equal_texts_and_near_texts_with_the_same_answer_are_one() -> None:
    repeats = find_repeats(TEXTS, 0.8)
    assert {name: drop.detail.rpartition(" ")[2] for name, drop in repeats.items()} == {"b": "a", "d": "c", "h": "g"}
    assert {(drop.stage, drop.reason) for drop in repeats.values()} == {("ask", "near_duplicate")}


def test_the_order_of_shards_does_not_matter() -> None:
    shuffled = list(TEXTS)
    random.Random(1).shuffle(shuffled)
    assert find_repeats(sorted(shuffled, key=lambda text: text.example_id), 0.8) == find_repeats(TEXTS, 0.8)


def test_a_limit_of_one_leaves_near_texts() -> None:
    assert set(find_repeats(TEXTS, 1.0)) == {"b"}


def test_repeats_move_from_questions_to_drops() -> None:
    counts = {"planned": 10, "questions": 8, "drops": {"declined": 2}, "answers": 90}
    repeats = find_repeats(TEXTS, 0.8)
    assert without_repeats(counts, repeats.values()) == {
        "planned": 10,
        "questions": 5,
        "drops": {"declined": 2, "near_duplicate": 3},
        "answers": 90,
    }

"""Leaks are found, and what only looks like one is not: shared distractors, templates, other worlds."""

import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest

from infra.errors import ContaminationError
from tasks.evaluation.contamination import Overlap, TrainingRow, check_overlap, measure_overlap, overlap_id
from tasks.evaluation.text_overlap import TextIndex, gram_hashes, units_of
from tasks.records.example import Context, Example

RANDOM = random.Random(4)
WORDS = ["".join(RANDOM.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(3000)]
LONG_QUESTION = "In which year did the engineer who drew the old bridge of Alder first cross the river to Brook?"


def document(seed: int, words: int = 200) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def posed(name: str, question: str, text: str, *references: str) -> tuple[Example, Context]:
    context = Context(f"context of {name}", text, 0, (), (), ())
    return Example(name, question, context.context_id, references, "qa", "en", "{}"), context


def trained(name: str, question: str, text: str, *references: str) -> TrainingRow:
    return TrainingRow(name, f"training context of {name}", question, references, f"Read this.\n{text}\n{question}")


def leaks(questions: list[tuple[Example, Context]], rows: list[TrainingRow]) -> list[tuple[str, str]]:
    return [(leak.example_id, leak.row_id) for leak in measure_overlap(questions, rows).leaks]


def test_the_same_context_with_another_question_is_a_leak() -> None:
    question = posed("q1", "Who wrote it?", document(1), "Ava")
    changed = document(1).upper().replace(" ", ",\n")  # case, punctuation and space do not hide it
    assert leaks([question], [trained("t0", "x", document(2)), trained("t1", "Where is it?", changed)]) == [
        ("q1", "t1")
    ]


def test_distractors_of_one_pool_are_no_leak_and_are_measured() -> None:
    pool = [document(seed) for seed in range(10, 30)]
    question = posed("q1", "Who wrote it?", "\n".join([document(1), *pool[:9]]), "Ava")
    overlap = measure_overlap(
        [question], [trained("t1", "Where is it?", "\n".join([document(2), *pool[4:13]]), "Rome")]
    )
    assert overlap.leaks == ()
    assert overlap.context_most == pytest.approx(0.5, abs=0.06)  # five of ten documents
    check_overlap(overlap, allowed=False)


def test_of_a_test_split_only_contexts_that_were_not_drawn_are_compared_as_a_whole() -> None:
    example, context = posed("q1", "Who wrote it?", document(1))
    drawn = replace(context, span_starts=(0, 99), span_ends=(98, 200), span_titles=("", ""))
    row = trained("t1", "Where is it?", document(1))
    assert measure_overlap([(example, drawn)], [row], of_split={"q1"}).leaks == ()
    assert measure_overlap([(example, drawn)], [row]).leaks  # questions of their own
    assert measure_overlap([(example, context)], [row], of_split={"q1"}).leaks  # one document
    posed_again = trained("t1", "who wrote it", document(1))
    assert measure_overlap([(example, drawn)], [posed_again], of_split={"q1"}).leaks


def test_the_same_question_and_answer_is_a_leak_where_the_contexts_share_a_document() -> None:
    pool = [document(seed) for seed in range(10, 30)]
    question = posed("q1", "Who wrote it?", "\n".join([document(1), *pool[:9]]), "Ava")
    other = "\n".join([document(1), *pool[10:19]])
    assert leaks([question], [trained("t1", "who wrote it", other, "ava")]) == [("q1", "t1")]
    assert leaks([question], [trained("t1", "who wrote it", other)]) == [("q1", "t1")]  # no reference to tell apart
    assert leaks([question], [trained("t1", "who wrote it", other, "Ben")]) == []


def test_a_template_or_a_name_in_another_world_is_no_leak() -> None:
    question = posed("q1", "Where does Ava live?", document(1), "Rome")
    assert leaks([question], [trained("t1", "Where does Ava live?", document(2), "Rome")]) == []
    summary = "Write a summary of this report in one page, with all of its findings and none of its figures."
    report = posed("q2", summary, document(3), "The report says this.")
    assert leaks([report], [trained("t2", summary, document(4), "The report says that.")]) == []


def test_a_long_question_is_a_leak_with_any_context() -> None:
    question = posed("q1", LONG_QUESTION, document(1), "1907")
    row = trained("t1", f"Answer briefly. {LONG_QUESTION}", document(2), "1907")
    assert leaks([question], [row]) == [("q1", "t1")]
    assert leaks([question], [trained("t1", LONG_QUESTION, document(2), "1908")]) == []


def test_an_instruction_that_questions_share_is_no_leak() -> None:
    instruction = "Answer the question below from the text above, in one sentence; say unknown where it does not say."
    own = "In which year was the old bridge of Alder built, who drew it, who paid, and what did it cost in the end?"
    question = posed("q1", f"{instruction} {own}", document(1), "1907")
    other = "Who sold the mill of Brook to the mayor, when, and for how much in all, and what became of it later on?"
    row = trained("t1", f"{instruction} {other}", document(2), "1907")
    assert leaks([question], [row]) == []
    assert leaks([question], [trained("t1", question[0].question, document(2), "1907")]) == [("q1", "t1")]


def test_chinese_is_compared_by_characters() -> None:
    assert units_of("东京的Capital-City，ＡＢＣ") == ["东", "京", "的", "capital", "city", "abc"]
    text = "".join(random.Random(1).choices([chr(code) for code in range(0x4E00, 0x9000)], k=400))
    question = posed("q1", "谁写的？", text)
    assert leaks([question], [trained("t1", "", "。".join([text[:100], text[100:]]))]) == [("q1", "t1")]
    assert leaks([question], [trained("t1", "", text[:200])]) == []


def test_a_share_is_that_of_the_sampled_n_grams() -> None:
    texts = [document(1, 30_000), document(2, 30_000), "two words"]
    shares = TextIndex(texts).shares(f"{texts[0][:70_000]} and two words")
    assert shares[0] == pytest.approx(1 / 3, abs=0.05)
    assert shares[1] == 0
    assert TextIndex([]).shares("nothing").size == 0
    assert gram_hashes("").size == 0
    assert TextIndex(["", texts[0]]).shares(texts[0]).tolist() == [0, 1]


def test_an_error_names_the_question_and_the_row_unless_it_is_allowed() -> None:
    overlap = measure_overlap([posed("q1", "Who wrote it?", document(1))], [trained("t1", "", document(1))])
    with pytest.raises(
        ContaminationError, match=r"1 of 1 .* q1 \(0% of its question and 100% of its context .* row t1\)"
    ):
        check_overlap(overlap, allowed=False)
    check_overlap(overlap, allowed=True)
    assert Overlap.from_json(overlap.to_json()) == overlap
    assert overlap.to_json()["leaked"] == 1


def test_a_measurement_belongs_to_its_questions_and_its_training_data() -> None:
    first, second = posed("q1", "a", "text"), posed("q1", "b", "text")
    assert overlap_id([first], "x") == overlap_id([first], "x")
    assert len({overlap_id([first], "x"), overlap_id([second], "x"), overlap_id([first], "y")}) == 3


def test_memory_does_not_grow_with_what_was_trained_on() -> None:
    def rows(count: int) -> Iterator[TrainingRow]:
        text = document(9, 20_000)
        for number in range(count):
            yield trained(f"t{number}", "", f"{number} {text}")

    question = posed("q1", "Who?", document(1, 20_000))
    measure_overlap([question], rows(2))
    peaks = []
    for count in (5, 50):
        tracemalloc.start()
        assert measure_overlap([question], rows(count)).rows == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 2_000_000  # bytes; 45 more texts have 6 MB, and their n-grams 7 MB

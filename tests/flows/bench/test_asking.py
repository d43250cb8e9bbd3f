"""The benchmark of asking: its faults are planted as it says, and the checks keep to their targets."""

from collections import Counter

import pytest

from flows.bench.asking import (
    FAULTS,
    RATE,
    history_bank,
    intended,
    is_right,
    library_bank,
    measure_bank,
    with_faults,
    world_bank,
)
from flows.bench.stub_asker import StubAsker
from tasks.asking.proof import find_proof, whole_turns


def test_each_fault_is_planted_at_its_rate_and_the_rest_is_good() -> None:
    for bank in (library_bank(), world_bank()):
        rows = with_faults(bank)
        counts = Counter(row.fault for row in rows)
        for fault in FAULTS:
            assert counts[fault] == round(RATE * len(rows))
        good = [(row, before) for row, before in zip(rows, bank, strict=True) if not row.fault]
        assert all(row == before and is_right(row) for row, before in good)


def test_the_stub_answers_from_the_proof_alone() -> None:
    row = world_bank()[0]
    bank = [{"question": row.question, "answers": row.answers, "items": row.items, "proof": row.proof, "other": "no"}]
    stub = StubAsker(bank, errors=0, label_errors=0, misses=0)
    task = f"Task: ask-answer\n{{}}\n<question>\n{row.question}\n</question>\n"
    assert stub.reply(task.format("\n".join(row.proof)), "0") == "; ".join(row.items or row.answers[:1])
    assert stub.reply(task.format("\n".join(row.proof[1:])), "0") == "[[Not stated]]"


@pytest.mark.slow
def test_the_checks_catch_the_faults_and_lose_few_good_questions() -> None:
    figures = measure_bank(with_faults(world_bank()[:100]))
    for fault, counts in figures["faults"].items():
        assert counts["caught"] >= 0.8 * counts["planted"], fault
    assert figures["right"] >= 0.95
    assert figures["right before"] < 0.8
    assert figures["good"]["share"] <= 0.3  # of 50: the stub's own errors are drawn
    assert figures["calls per question"] < 40


def test_histories_have_gold_questions_of_all_their_kinds_whose_proof_is_whole_sentences_of_turns() -> None:
    rows = history_bank()
    assert set(Counter((row.kind, row.language) for row in rows).values()) == {12}
    assert len({row.question for row in rows}) == len(rows)
    for number, row in enumerate(rows):
        (place,) = intended(number, row).places
        assert len(place.turns) == len(row.messages)
        evidence = find_proof(row.proof, [place.text], [(0, 0, len(place.text))])
        assert isinstance(evidence, list)
        assert len(whole_turns(evidence, [place])) == len(row.proof)
    faults = Counter(row.fault for row in with_faults(rows))
    assert all(faults[fault] == round(RATE * len(rows)) for fault in FAULTS if fault != "kind")

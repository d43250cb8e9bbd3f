"""Reward benches in their published shapes: what is right, what is a tie, what is missing."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import InputError
from tasks.evaluation.reward_bench import BEST_OF_N, PAIR, RANKING, RankedSet, bench_figures, read_bench
from tasks.records.example import AnswerId, Judgement
from tasks.reporting.comparison_tables import bench_table_rows

PAIRED = {"id": 7, "prompt": "Who?", "chosen": "Ava.", "rejected": "Ben.", "subset": "chat", "chosen_model": "m"}
SEVERAL = {"id": "a", "prompt": "Who?", "chosen": ["Ava."], "rejected": ["Ben.", "Cid.", "Dan."], "subset": "facts"}
DOCUMENT = "A long report.\n" * 20
RANKED = {
    "id": 3,
    "prompt_template": [{"role": "user", "content": f"{DOCUMENT}\nWhat is it about?"}],
    "question": "What is it about?",
    "tasktype": "BestOfN",
    "candidates": ["best", "good", "bad"],
    "source": "x",
    "ctx_length_for_length": "4k",
}


def bench_of(folder: Path, *rows: dict[str, Any], name: str = "LongQA.jsonl") -> list[RankedSet]:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_bench(str(folder / name))


def rewards_of(sets: list[RankedSet], *rewards: list[float | None]) -> dict[AnswerId, float | None]:
    values: dict[AnswerId, float | None] = {}
    for ranked, of_set in zip(sets, rewards, strict=True):
        values.update(zip((answer.id for answer in ranked.answers), of_set, strict=True))
    return values


def test_the_three_published_shapes_are_read(tmp_path: Path) -> None:
    pair, several, ranked = bench_of(tmp_path, PAIRED, SEVERAL, RANKED)
    assert [(one.kind, one.subset, one.ranks) for one in (pair, several, ranked)] == [
        (PAIR, "chat", (0, 1)),
        (BEST_OF_N, "facts", (0, 1, 1, 1)),
        (RANKING, "LongQA", (0, 1, 2)),
    ]
    assert [answer.text for answer in several.answers] == ["Ava.", "Ben.", "Cid.", "Dan."]
    assert (pair.example.question, pair.context.text, pair.example.example_id) == ("Who?", "", "LongQA-7")
    assert (ranked.example.question, ranked.context.text, ranked.length) == (
        "What is it about?",
        DOCUMENT.strip(),
        "4k",
    )


def test_chat_messages_and_contexts_of_their_own_are_read(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Who?"}]
    answer = [{"role": "assistant", "content": "Ava."}]
    row = {"prompt": messages, "chosen": answer, "rejected": answer, "context": "A book.", "question": "Who is it?"}
    (ranked,) = bench_of(tmp_path, row)
    assert [one.text for one in ranked.answers] == ["Ava.", "Ava."]
    assert (ranked.example.question, ranked.context.text) == ("Who is it?", "A book.")


def test_the_highest_reward_decides_and_equal_ones_share(tmp_path: Path) -> None:
    sets = bench_of(tmp_path, PAIRED, {**PAIRED, "id": 8}, SEVERAL, {**SEVERAL, "id": "b"}, RANKED)
    rewards = rewards_of(sets, [1.0, 0.0], [0.5, 0.5], [0.5, 0.5, 0.5, 0.2], [0.1, 0.9, 0.0, 0.0], [0.9, 0.5, 0.7])
    figures = bench_figures(sets, rewards, [])
    kinds = {name: (figure["value"], figure["n"], figure["ties"]) for name, figure in figures["kinds"].items()}
    assert kinds == {PAIR: (0.75, 2, 1), BEST_OF_N: (pytest.approx(1 / 6, abs=1e-6), 2, 1), RANKING: (1.0, 1, 0)}
    assert figures["accuracy"]["value"] == pytest.approx((1 + 0.5 + 1 / 3 + 0 + 1) / 5, abs=1e-6)
    # Ordered pairs of the sets: 1, 1/2, (1/2 + 1/2 + 1) / 3, (0 + 1 + 1) / 3, 2/3.
    assert figures["pairs"]["value"] == pytest.approx((1 + 0.5 + 2 / 3 + 2 / 3 + 2 / 3) / 5, abs=1e-6)
    assert figures["macro"] == pytest.approx((0.75 + 1 / 6 + 1) / 3, abs=1e-6)
    assert list(figures["lengths"]) == ["4k"]
    _, rows = bench_table_rows(figures)
    assert rows[0][0] == "all sets" and rows[0][3] == "2"


def test_a_set_with_an_answer_without_a_reward_is_missing_with_its_reason(tmp_path: Path) -> None:
    sets = bench_of(tmp_path, PAIRED, {**PAIRED, "id": 8}, {**PAIRED, "id": 9})
    rewards = rewards_of(sets, [1.0, 0.0], [None, 0.5], [0.1, None])
    judgements = [
        Judgement(sets[0].example.example_id, 0, "helpfulness", 1.0, None, "{}", ()),
        Judgement(sets[0].example.example_id, 1, "helpfulness", 0.0, None, "{}", ()),
        Judgement(sets[1].example.example_id, 0, "helpfulness", None, "no_rating", "{}", ()),
    ]
    figures = bench_figures(sets, rewards, judgements)
    assert (figures["accuracy"]["value"], figures["accuracy"]["n"]) == (1.0, 1)
    assert figures["accuracy"]["missing"] == {"no_rating": 1, "no_reward": 1}
    assert figures["scorers"]["helpfulness"]["n"] == 1
    assert bench_table_rows(figures)[1][0][-1] == "1 no_rating, 1 no_reward"


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"prompt": "Who?", "chosen": "Ava."}, "row 1: rejected is no text"),
        ({"prompt": "", "chosen": "Ava.", "rejected": "Ben."}, "row 1: prompt is no text"),
        ({"prompt": "Who?", "candidates": ["one"]}, "there is one answer"),
    ],
)
def test_a_row_that_is_no_set_is_named(tmp_path: Path, row: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        bench_of(tmp_path, row)


def test_rows_with_the_same_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="LongQA-7 is there 2 times"):
        bench_of(tmp_path, PAIRED, PAIRED)

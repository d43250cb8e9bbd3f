"""Every judged answer is read with its prompt, on the side of its context; what cannot be is a counted drop."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from infra.errors import InputError, TrainingError
from infra.recipe import RewardTraining
from infra.store import Store
from tasks.judging.reward_input import RewardEncoder
from tasks.records.reader import open_dataset
from tasks.training.reward.judged import JudgedData, RewardQuestion, read_judged
from tasks.training.reward.rows import EncodedRows, encode_rows
from tests.support.judged_answers import change_manifest, forget_recipe
from tests.support.tiny_model import tiny_tokenizer

SETTINGS = RewardTraining()
PAIRWISE = RewardTraining(objective="pairwise")
ENCODER = RewardEncoder(tiny_tokenizer(), "tiny")


@pytest.mark.medium
def test_all_answers_of_all_questions_are_read_with_the_prompt_that_they_answer(store: Store, manifest: str) -> None:
    data = read_judged(store, [manifest], SETTINGS, 0)
    drops: Counter[str] = Counter()
    questions = list(data.questions(drops))
    assert (data.heads, data.shares) == (("consensus",), (1.0,))
    assert len(questions) == 12 and not drops
    assert all([answer.sample_index for answer in question.answers] == [0, 1, 2, 3] for question in questions)
    assert all(answer.scores == (answer.reward,) for question in questions for answer in question.answers)
    prompts = {row["example_id"]: row["prompt"] for row in open_dataset(store, manifest).rows("pairs")}
    assert len(prompts) == 10
    for question in questions:
        if question.example_id in prompts:
            assert list(question.prompt) == prompts[question.example_id]
        assert f"What is number {int(question.example_id[1:])}?" in question.prompt[-1]["content"]


def test_without_the_plan_the_pairs_have_the_prompts_and_the_others_are_counted(store: Store, manifest: str) -> None:
    forget_recipe(store)
    drops: Counter[str] = Counter()
    questions = list(read_judged(store, [manifest], SETTINGS, 0).questions(drops))
    assert len(questions) == 10
    assert drops == {"no_context": 8}


def test_a_context_is_on_one_side_the_datasets_or_one_by_the_seed(store: Store, manifest: str) -> None:
    data = read_judged(store, [manifest], SETTINGS, 0)
    rows = {row["context_id"]: row["split"] for row in open_dataset(store, manifest).rows("evidence")}
    assert {question.context_id: question.split for question in data.questions(Counter())} == rows
    assert set(rows.values()) == {"train", "test"}

    def without_test(content: dict[str, Any]) -> None:
        for file in content["files"]:
            if file.get("split") == "test":
                file["split"] = "train"

    whole = change_manifest(store, manifest, without_test)
    drawn = read_judged(store, [whole], RewardTraining(test_fraction=0.5), 3)
    sides = {question.context_id: question.split for question in drawn.questions(Counter())}
    assert set(sides.values()) == {"train", "test"}
    assert "by seed 3" in drawn.sides.rule


def test_heads_learn_scores_by_their_weights_so_that_their_mean_is_the_reward(store: Store, manifest: str) -> None:
    scorers = [{"scorer": "consensus", "weight": 3}, {"scorer": "other"}, {"scorer": "report", "weight": 0}]
    several = change_manifest(
        store, manifest, lambda content: content["recipe"].update({"scoring": {"scorers": scorers}})
    )
    other = read_judged(store, [several], SETTINGS, 0)
    assert (other.heads, other.shares) == (("consensus", "other"), (1.5, 0.5))
    message = r"made of consensus \(1\), that of .* consensus \(3\), other \(1\).*same scorers and weights"
    with pytest.raises(InputError, match=message):
        read_judged(store, [several, manifest], SETTINGS, 0)


def test_a_dataset_without_judged_answers_is_refused(store: Store, manifest: str) -> None:
    mute = change_manifest(store, manifest, lambda content: content["recipe"].pop("scoring"))
    with pytest.raises(InputError, match="without judged answers"):
        read_judged(store, [mute], SETTINGS, 0)


def test_no_answer_is_cut_and_each_is_used_or_a_counted_drop(store: Store, manifest: str, tmp_path: Path) -> None:
    data = read_judged(store, [manifest], SETTINGS, 0)

    def encoded(longest: int, work: str) -> EncodedRows:
        (tmp_path / work).mkdir(exist_ok=True)
        return encode_rows(data, ENCODER, SETTINGS, longest, tmp_path / work)

    whole = encoded(4000, "whole")
    assert whole.train.answers + whole.test.answers == 48 and not whole.drops
    (head,) = whole.heads
    assert head.scores == whole.train.answers and 0.5 < head.mean < 0.8 and 0.1 < head.spread < 0.4
    shorter = encoded(max(whole.train.longest, whole.test.longest) - 1, "shorter")
    assert 0 < shorter.drops["too_long"] < 24
    assert shorter.train.answers + shorter.test.answers + shorter.drops["too_long"] == 48
    with pytest.raises(TrainingError, match=r"48 of 48 judged answers are longer than 100 tokens.*max_length"):
        encoded(100, "short")
    assert encoded(1, "whole") == whole  # what was written before stays


def test_pairwise_leaves_out_questions_whose_answers_all_have_one_reward(
    store: Store, manifest: str, tmp_path: Path
) -> None:
    data = read_judged(store, [manifest], PAIRWISE, 0)
    questions = []
    for question in data.questions(Counter()):
        if not questions:
            equal = [dataclasses.replace(answer, reward=0.5, scores=(0.5,)) for answer in question.answers]
            question = dataclasses.replace(question, answers=tuple(equal))
        questions.append(question)

    class Equal:
        heads = data.heads

        def check(self) -> None: ...

        def questions(self, drops: Counter[str]) -> list[RewardQuestion]:
            return questions

    encoded = encode_rows(cast(JudgedData, Equal()), ENCODER, PAIRWISE, 4000, tmp_path)
    assert encoded.drops == {"no_pair": 4}
    assert encoded.train.questions + encoded.test.questions == 11

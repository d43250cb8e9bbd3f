"""Generated suites: exact lengths for any tokenizer, the same questions everywhere, nothing hidden that gets lost."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import EvaluationError, RecipeError
from infra.models.tokens import count_tokens, load_tokenizer
from tasks.evaluation.generated import counting
from tasks.evaluation.generated.common_words import check_common
from tasks.evaluation.generated.counting import CountedText, TextCounter
from tasks.evaluation.generated.effective_length import effective_length
from tasks.evaluation.generated.key_values import check_pairs
from tasks.evaluation.generated.making import recall
from tasks.evaluation.generated.question import Case, Hidden, check_hidden, check_length
from tasks.evaluation.suites import SuiteQuestion, find_suite
from tests.support.generated import (
    TOKENIZERS,
    generated_questions,
    generating_recipe,
    tokenizer_named,
    whole_prompt_tokens,
)

CASE = Case("single", 1024, 1024, 0)
# Hash of some questions. They change with the library, its prompts and words, and never by themselves.
MADE = "ada3bbc8ea3d5292dada0a2bb14c85cea2af4533c50a79d5ea42b8908a5ed308"
ALL_BUT_DOCUMENTS = ["single", "multi_key", "multi_query", "multi_value", "variable_tracking", "common_words"]


def common_beginning(first: str, second: str) -> int:
    """Characters that two texts have in common, from their beginnings on."""
    for place, (left, right) in enumerate(zip(first, second, strict=False)):
        if left != right:
            return place
    return min(len(first), len(second))


def contexts(questions: list[SuiteQuestion]) -> list[str]:
    return [question.context.text for question in questions]


@pytest.mark.medium
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_prompts_have_the_length_that_was_asked_for_and_at_most_four_tokens_fewer(
    tmp_path: Path, name: str, language: str
) -> None:
    tokenizer, recipe = tokenizer_named(name), generating_recipe(tmp_path)
    settings = {"language": language, "texts": 1, "depths": [0, 0.4, 1]}
    questions = generated_questions(tmp_path, "ruler", tokenizer, lengths=[1500], tasks=ALL_BUT_DOCUMENTS, **settings)
    questions += generated_questions(tmp_path, "ruler", tokenizer, lengths=[8192], tasks=["qa"], **settings)
    questions += generated_questions(tmp_path, "kv", tokenizer, lengths=[1500], **settings)
    assert {question.task for question in questions} == {*ALL_BUT_DOCUMENTS, "qa", "key_values"}
    for question in questions:
        missing = int(question.groups["length"]) - whole_prompt_tokens(question, recipe, tokenizer)
        assert 0 <= missing <= 4, question.example.example_id


@pytest.mark.medium
@pytest.mark.parametrize("task", ["single", "common_words"])
def test_long_prompts_are_exact_too(tmp_path: Path, task: str) -> None:
    tokenizer, recipe = tokenizer_named("sentencepiece"), generating_recipe(tmp_path)
    settings = {"lengths": [60_000], "texts": 1, "depths": [0.5], "tasks": [task]}
    (question,) = generated_questions(tmp_path, "ruler", tokenizer, **settings)
    assert 59_996 <= whole_prompt_tokens(question, recipe, tokenizer) <= 60_000


def test_a_prompt_leaves_room_for_the_answer_in_a_window_of_its_length(tmp_path: Path) -> None:
    tokenizer, recipe = tokenizer_named("microworld"), generating_recipe(tmp_path, 2048)
    settings = {"lengths": [2048], "texts": 1, "depths": [0.5]}
    (question,) = generated_questions(tmp_path, "needle", tokenizer, 2048, **settings)
    assert question.groups["length"] == 2048
    assert 2048 - 64 - 4 <= whole_prompt_tokens(question, recipe, tokenizer) <= 2048 - 64


def test_a_length_that_the_model_cannot_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="4096 tokens are more than policy"):
        generated_questions(tmp_path, "kv", tokenizer_named("microworld"), 2048, lengths=[1500, 4096])


def test_without_lengths_they_double_up_to_the_window(tmp_path: Path) -> None:
    questions = generated_questions(tmp_path, "kv", tokenizer_named("microworld"), 20_000, texts=1, depths=[0.5])
    assert [question.groups["length"] for question in questions] == [16384, 8192, 4096]


def test_every_process_makes_the_same_questions(tmp_path: Path) -> None:
    texts: list[str] = []
    for suite in ("needle", "kv"):
        for question in generated_questions(tmp_path, suite, tokenizer_named("microworld"), lengths=[1500], texts=1):
            texts += [question.example.example_id, question.example.question, question.context.text]
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest() == MADE


def test_another_seed_makes_other_texts(tmp_path: Path) -> None:
    tokenizer = tokenizer_named("microworld")
    suite = find_suite("kv")
    assert suite.generate is not None
    recipe = generating_recipe(tmp_path)
    settings = suite.settings(lengths=(1500,), texts=1)  # type: ignore[call-arg]
    first = {question.context.text for question in suite.generate(settings, recipe, tokenizer)}
    other_recipe = recipe.model_copy(update={"seed": 1})
    assert first.isdisjoint(question.context.text for question in suite.generate(settings, other_recipe, tokenizer))


def test_needles_stand_at_their_depth(tmp_path: Path) -> None:
    questions = generated_questions(tmp_path, "needle", tokenizer_named("byte_level"), lengths=[8192], texts=2)
    for question in questions:
        text = question.context.text
        place = text.index(question.example.references[0]) / len(text)
        assert place == pytest.approx(float(question.groups["depth"]), abs=0.02)


def test_contexts_of_one_haystack_are_the_same_up_to_the_first_needle(tmp_path: Path) -> None:
    tokenizer = tokenizer_named("byte_level")
    settings = {"lengths": [4096, 8192], "texts": 1, "depths": [0.25, 0.5, 1]}
    questions = generated_questions(tmp_path, "needle", tokenizer, **settings)
    assert [(question.groups["length"], question.groups["depth"]) for question in questions] == [
        (8192, 1), (8192, 0.5), (8192, 0.25), (4096, 1), (4096, 0.5), (4096, 0.25),
    ]  # fmt: skip
    assert len({question.shared for question in questions}) == 1
    deepest, middle, high, shorter, *_ = contexts(questions)
    assert common_beginning(deepest, middle) >= 0.48 * len(deepest)
    assert common_beginning(middle, high) >= 0.23 * len(deepest)
    assert common_beginning(deepest, shorter) >= 0.97 * len(shorter)  # a short haystack begins the long one


def test_questions_about_several_needles_share_their_text_but_for_its_end(tmp_path: Path) -> None:
    settings = {"lengths": [4096], "texts": 1, "tasks": ["multi_key", "multi_query"]}
    questions = generated_questions(tmp_path, "needle", tokenizer_named("byte_level"), **settings)
    texts = contexts(questions)
    assert len({question.example.question for question in questions}) == 6
    assert all(common_beginning(texts[0], text) >= 0.95 * len(text) for text in texts[:5])


def test_questions_about_one_object_share_it(tmp_path: Path) -> None:
    settings = {"lengths": [4096], "texts": 1, "depths": [0, 0.5, 1]}
    questions = generated_questions(tmp_path, "kv", tokenizer_named("byte_level"), **settings)
    pairs = json.loads(questions[0].context.text)
    positions = [int(question.groups["position"]) for question in questions]
    assert positions == [len(pairs) - 2, round((len(pairs) - 2) / 2), 0]
    for question, position in zip(questions, positions, strict=True):
        assert question.example.references == (list(json.loads(question.context.text).values())[position],)
        assert common_beginning(question.context.text, questions[0].context.text) >= 0.97 * len(question.context.text)


def test_a_users_own_texts_are_the_haystack(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text("\n".join(f"Line {line} of text {number}." for line in range(300)))
    questions = generated_questions(
        tmp_path, "needle", tokenizer_named("byte_level"), haystack=str(folder), lengths=[2048], texts=1, depths=[0.5]
    )
    assert contexts(questions)[0].count("of text") > 100
    noise = generated_questions(
        tmp_path, "needle", tokenizer_named("byte_level"), haystack="noise", lengths=[2048], texts=1, depths=[0.5]
    )
    assert contexts(noise)[0].count("The kettle is warm.") > 20


@pytest.mark.parametrize("text", ["nothing here", "the needle is 7. the needle is 7."])
def test_a_needle_that_got_lost_or_doubled_stops_the_making(text: str) -> None:
    with pytest.raises(EvaluationError, match="times in the text and must once"):
        check_hidden(CASE, text, [Hidden(0.5, "the needle is 7.")])


def test_a_haystack_that_loses_its_needle_stops_the_making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced = TextCounter.replaced

    def losing(self: TextCounter, counted: CountedText, start: int, end: int, part: str) -> CountedText:
        return counted if "secret number" in part else replaced(self, counted, start, end, part)

    monkeypatch.setattr(TextCounter, "replaced", losing)
    with pytest.raises(EvaluationError, match="stands 0 times"):
        generated_questions(tmp_path, "needle", tokenizer_named("microworld"), lengths=[1500], texts=1)


def test_a_tokenizer_that_is_counted_wrongly_stops_the_making(tmp_path: Path) -> None:
    for tokens in (1025, 1019):
        with pytest.raises(EvaluationError, match=f"has {tokens}"):
            check_length(CASE, tokens)
    check_length(CASE, 1020)
    with pytest.raises(EvaluationError, match="a pair got lost"):
        check_pairs(CASE, '{"a": "1", "c": "3", "d": ""}', [("a", "1"), ("b", "2")])
    with pytest.raises(EvaluationError, match="common words got lost"):
        check_common(CASE, "1. a 2. b 3. a", ["b"], 1)


def test_what_there_is_no_room_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="give longer `lengths`"):
        generated_questions(tmp_path, "ruler", tokenizer_named("microworld"), lengths=[1000], tasks=["qa"], texts=1)


def test_a_change_is_counted_as_the_whole_text_is() -> None:
    counter = TextCounter(tokenizer_named("sentencepiece"))
    counted = counter.count("Rivers run to the sea. " * 200)
    for start, end, part in ((0, 0, "At first: "), (2300, 2340, "号码是7。"), (100, 4000, "")):
        changed = counter.replaced(counted, start, end, part)
        assert changed.tokens == counter.count(changed.text).tokens


def test_the_effective_length_is_the_longest_that_reaches_the_threshold() -> None:
    scores: list[tuple[int, str, float | None]] = [(1000, "a", 1.0), (1000, "b", 0.8), (2000, "a", 0.5)]
    scores += [(4000, "a", 0.9), (4000, "b", None), (8000, "a", 0.1)]
    result = effective_length(scores, 0.85)
    assert result.length == 4000
    assert result.dips == (2000,)
    assert result.scores == {1000: pytest.approx(0.9), 2000: 0.5, 4000: 0.9, 8000: 0.1}
    assert effective_length(scores, 0.95).length is None
    assert effective_length([], 0.5).length is None


def test_recall_is_the_share_of_the_items(tmp_path: Path) -> None:
    settings = {"lengths": [1500], "texts": 1, "tasks": ["multi_value", "single"], "depths": [0.5]}
    values, single = generated_questions(tmp_path, "needle", tokenizer_named("microworld"), **settings)
    first, second, *_ = values.example.references
    assert recall(f"{first}, {second}, 12", values.example, values.context) == 0.5
    assert recall(f"It is {single.example.references[0]}.", single.example, single.context) == 1.0
    assert recall(f"9{single.example.references[0]}", single.example, single.context) == 0.0


def test_what_is_made_again_is_not_counted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def count(tokenizer: object, texts: list[str]) -> list[int]:
        counted.extend(map(len, texts))
        return count_tokens(tokenizer, texts)

    monkeypatch.setattr(counting, "count_tokens", count)
    settings: dict[str, Any] = {"lengths": [1123], "depths": [0.3], "texts": 1}
    first = generated_questions(tmp_path, "kv", load_tokenizer("microworld"), **settings)
    made, counted[:] = sum(counted), []
    assert generated_questions(tmp_path, "kv", load_tokenizer("microworld"), **settings) == first
    assert made > 0 and not counted
    generated_questions(tmp_path, "kv", tokenizer_named("byte_level"), **settings)  # another tokenizer's are others
    assert counted

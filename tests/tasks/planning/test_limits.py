"""What training could not hold is a drop of the plan, to the token; and how long the training will be."""

from pathlib import Path
from typing import Any

import pytest

from infra.errors import InputError
from infra.models.tokens import closing_tokens, load_tokenizer
from infra.recipe import Recipe, parse_recipe
from infra.store import open_store
from tasks.contexts import BuiltQuestion
from tasks.evaluation.heldout import heldout_questions
from tasks.planning.limits import prompt_limits, unsaid_training_note
from tasks.planning.make_plan import make_plan
from tasks.planning.training_steps import expected_training
from tasks.records.example import Drop
from tasks.reporting.tables import plan_rows
from tasks.sample_prompt import sample_prompt
from tasks.training.gate import gate
from tests.support.chat_templates import FAMILIES
from tests.support.planning import build_examples, pooled_rows, small_recipe, write_rows
from tests.support.tiny_model import TEMPLATE, pair_row, tiny_tokenizer

LONG, SHORT = {"id": "long", "question": "Q?", "context": "c" * 500}, {"id": "short", "question": "Q?", "context": "c"}
POOLED = {"build": "pooled", "min_tokens": 1024, "max_tokens": 1024, "step_tokens": 128}


def build(recipe: Recipe) -> list[BuiltQuestion | Drop]:
    return list(build_examples(recipe, load_tokenizer(recipe.policy.tokenizer)))


def recipe_of(folder: Path, **sections: Any) -> Recipe:
    """A recipe whose tokenizer closes each answer with <eos>, as real ones do; answers have 64 tokens at most."""
    if not (folder / "tokenizer").exists():
        tiny_tokenizer().save_pretrained(folder / "tokenizer")
    return small_recipe(folder, **sections)


def prompt_of(recipe: Recipe) -> int:
    (built,) = build(recipe.model_copy(update={"training": None}))
    assert isinstance(built, BuiltQuestion)
    return built.prompt_tokens


@pytest.mark.parametrize("room", [0, -1])
def test_a_question_fits_into_training_to_the_token_or_is_dropped(tmp_path: Path, room: int) -> None:
    """Prompt, an answer of 64 tokens, and the token that closes it: what the gate counts for such an answer."""
    prompt = prompt_of(recipe_of(tmp_path, rows=[LONG]))
    max_length = prompt + 64 + 1 + room
    recipe = recipe_of(tmp_path, training={"max_length": max_length})
    (outcome,) = build(recipe)
    if room == 0:
        assert isinstance(outcome, BuiltQuestion)
        strategy = recipe.sampling.strategy
        message = sample_prompt(outcome.example, outcome.context.text, strategy, recipe.policy).messages[0]
        row = pair_row(0, message["content"], "x" * 64, "y")
        assert gate([row], load_tokenizer(recipe.policy.tokenizer), max_length).total_max == max_length
        return
    assert isinstance(outcome, Drop)
    assert (outcome.example_id, outcome.stage, outcome.reason) == ("long", "context", "too_long_to_train")
    assert outcome.detail == (
        f"the prompt has {prompt} tokens; beside the longest answer a row of training.max_length holds {prompt - 1}"
    )


@pytest.mark.parametrize("family", ["qwen-3", "deepseek-r1", "glm"])
def test_an_empty_block_of_thinking_is_part_of_the_room_that_training_takes(tmp_path: Path, family: str) -> None:
    FAMILIES[family].tokenizer().save_pretrained(tmp_path / "tokenizer")
    recipe = small_recipe(tmp_path, training={"max_length": 1000})
    tokenizer = load_tokenizer(recipe.policy.tokenizer)
    longest = prompt_limits(recipe, tokenizer).prompt
    prompt = [{"role": "user", "content": "Q"}]
    opening = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    fitting = longest - len(tokenizer(opening, add_special_tokens=False)["input_ids"]) + 1  # of a token each
    row = pair_row(0, "7" * fitting, "7" * 64, "y")
    assert gate([row], tokenizer, 1000).total_max == 1000


def test_nothing_is_dropped_for_a_training_that_there_is_not(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, rows=[LONG], training={"max_length": 300})
    assert [type(outcome) for outcome in build(recipe)] == [Drop]
    assert [type(outcome) for outcome in build(recipe.model_copy(update={"training": None}))] == [BuiltQuestion]


def test_a_recipe_that_leaves_training_out_drops_nothing_and_is_told_what_the_defaults_hold(tmp_path: Path) -> None:
    """Also after it was stored with all its keys."""
    rows = [{**LONG, "context": "c" * size} for size in (32_768 - 64, 32_768 - 63)]
    rows[1]["id"] = "longer"
    recipe = recipe_of(tmp_path, rows=rows, policy={"context_window": 100_000})
    for same in (recipe, parse_recipe(recipe.model_dump(mode="json"))):
        assert [type(outcome) for outcome in build(same)] == [BuiltQuestion] * 2
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    assert unsaid_training_note(plan, recipe, store).startswith("1 questions are too long for the default")
    assert unsaid_training_note(plan, recipe.model_copy(update={"training": None}), store) == ""
    stated = recipe_of(tmp_path, policy={"context_window": 100_000}, training={"epochs": 2})
    assert unsaid_training_note(plan, stated, store) == ""
    assert [type(outcome) for outcome in build(stated)] == [Drop] * 2  # prompts are longer than their contexts


def test_what_the_window_does_not_hold_is_dropped_for_that(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, rows=[LONG], training={"max_length": 400}, policy={"context_window": 500})
    (drop,) = build(recipe)
    assert isinstance(drop, Drop) and drop.reason == "prompt_too_long"


def test_drawn_contexts_leave_room_for_training_and_their_supporting_documents_are_dropped(tmp_path: Path) -> None:
    rows = [*pooled_rows(20), {"id": "big", "question": "Q?", "documents": [{"text": "z" * 900}]}]
    recipe = recipe_of(tmp_path, rows=rows, contexts=POOLED, training={"max_length": 800})
    *outcomes, big = build(recipe)
    for outcome in outcomes:
        assert isinstance(outcome, BuiltQuestion)
        assert 800 - 64 - 1 - 2 * 90 < outcome.prompt_tokens <= 800 - 64 - 1
    assert isinstance(big, Drop) and big.reason == "too_long_to_train"


def test_the_plan_counts_what_training_could_not_hold_and_says_so(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, rows=[LONG, SHORT], training={"max_length": 300})
    plan = make_plan(recipe, open_store(recipe.store))
    assert plan.drop_counts == {"too_long_to_train": 1}
    assert (plan.questions, plan.planned_questions) == (2, 1)
    assert any("1 questions are left out" in warning and "training to null" in warning for warning in plan.warnings)


def test_a_plan_of_which_training_could_hold_nothing_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, rows=[LONG], training={"max_length": 300})
    with pytest.raises(InputError, match=r"1 too_long_to_train.*Raise training\.max_length.*training: null"):
        make_plan(recipe, open_store(recipe.store))


def test_held_out_questions_are_not_trained_on_and_so_not_dropped(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "held-out.jsonl", [{**LONG, "answers": ["c"]}])
    evaluation = {"questions": {"source": str(source)}}
    recipe = recipe_of(tmp_path, rows=[SHORT], training={"max_length": 300}, evaluation=evaluation)
    assert len(heldout_questions(recipe, open_store(recipe.store), None)) == 1


def test_the_tokens_that_close_an_answer_are_the_templates() -> None:
    assert closing_tokens(tiny_tokenizer()) == 1
    assert closing_tokens(tiny_tokenizer(TEMPLATE.replace("<eos>", "<eos>\n\n"))) == 3
    assert closing_tokens(tiny_tokenizer("<bos>{{ messages | length }}" + TEMPLATE)) == 0  # cannot be trained with
    without = tiny_tokenizer()
    without.chat_template = None
    assert closing_tokens(without) == 0


def test_the_room_for_training_is_beside_the_longest_answer(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, rows=[SHORT], training={"max_length": 300})
    limits = prompt_limits(recipe, tiny_tokenizer())
    assert (limits.window, limits.training, limits.prompt) == (4096 - 64, 300 - 64 - 1, 235)
    limits = prompt_limits(recipe.model_copy(update={"training": None}), tiny_tokenizer())
    assert (limits.training, limits.prompt) == (None, 4096 - 64)


@pytest.mark.parametrize(
    ("training", "numbers", "words"),
    [
        ({"epochs": 2}, (18, 0, 6, 2.0, True), "at most 6 steps, 2 epochs of 18 questions"),
        ({"epochs": 1, "max_steps": 800}, (18, 0, 3, 1.0, True), "at most 3 steps, 1 epoch of 18 questions"),
        (
            {"epochs": 4, "max_steps": 6},
            (18, 0, 6, 2.0, False),
            "at most 6 steps, 2 epochs of 18 questions (ended by training.max_steps)",
        ),
        (
            {"mix": {"source": "short.jsonl", "ratio": 0.5}},
            (18, 9, 4, 1.0, True),
            "at most 4 steps, 1 epoch of 18 questions and 9 short rows",
        ),
    ],
)
def test_a_plan_says_how_many_steps_and_epochs_training_has(
    tmp_path: Path, training: dict[str, Any], numbers: tuple[object, ...], words: str
) -> None:
    """20 questions, of which a tenth is for testing, 8 a step."""
    recipe = recipe_of(tmp_path, rows=pooled_rows(20), training=training)
    plan = make_plan(recipe, open_store(recipe.store))
    expected = expected_training(plan, recipe)
    assert expected is not None
    assert tuple(expected.to_json().values()) == numbers
    tokens = {"input": 0, "input_total": 0, "output": {"low": 0, "expected": 0, "high": 0}}
    view = {
        "questions": 20,
        "shards": 5,
        "examples": 20,
        "most_pairs": 20,
        "drops": {},
        "calls": {},
        "tokens": tokens,
        "judge": None,
        "cost": {"low": 0, "expected": 0, "high": 0, "currency": "EUR"},
        "training": expected.to_json(),
    }
    assert ["training", words] in plan_rows(view)[1]
    assert expected_training(plan, recipe.model_copy(update={"training": None})) is None

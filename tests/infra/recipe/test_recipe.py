"""Recipes are typed, strict, documented, and say which of their keys decide the data."""

import copy
import traceback
from pathlib import Path

import pytest
import yaml

from flows.cli.recipe_keys import recipe_keys
from flows.recipes import BOX
from infra.canonical import fingerprint
from infra.errors import RecipeError
from infra.recipe import Recipe, load_recipe, parse_recipe
from tasks.training.settings import planned_steps

SETTINGS = {
    "name": "small",
    "questions": {"source": "questions.jsonl"},
    "policy": {"name": "m", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:1/v1"]},
    "scoring": {"scorers": [{"scorer": "consensus"}]},
    "dataset": {"name": "small", "licence": "cc0-1.0"},
}


def write_recipe(folder: Path, **changes: object) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(SETTINGS | changes), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", BOX.values(), ids=BOX.keys())
def test_every_recipe_in_the_box_is_valid(path: Path) -> None:
    assert load_recipe(path).name == path.stem


def test_the_papers_settings_stand_in_the_sealong_recipe() -> None:
    recipe = load_recipe(BOX["sealong"])
    assert (recipe.sampling.samples, recipe.sampling.temperature, recipe.sampling.max_tokens) == (32, 0.7, 1024)
    assert (recipe.contexts.min_tokens, recipe.contexts.max_tokens) == (4 * 1024, 31 * 1024)
    assert (recipe.contexts.articles, recipe.contexts.passages) == ("require", "untitled")
    training = recipe.training
    assert training is not None
    assert (training.loss, training.beta, training.lora_rank, training.lora_alpha) == ("orpo", 0.1, 128, 128)
    assert (training.learning_rate, training.batch_size, training.max_length) == (5e-5, 8, 32768)
    assert (training.epochs, training.max_steps) == (1, None)


def test_the_papers_training_stands_in_the_longreward_recipe() -> None:
    """400 to 800 steps of 16: its set of 10,000 questions is trained on once, and a small one not many times."""
    training = load_recipe(BOX["longreward"]).training
    assert training is not None
    assert (training.loss, training.beta, training.sft_weight) == ("dpo", 0.15, 0.1)
    assert (training.learning_rate, training.batch_size) == (1e-6, 16)
    assert [planned_steps(training, questions) for questions in (148, 10_000, 100_000)] == [10, 625, 800]


def test_unknown_keys_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml: sampling\.sampels: no such key"):
        load_recipe(write_recipe(tmp_path, sampling={"sampels": 4}))


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write_recipe(tmp_path, sampling={"samples": 0, "top_p": 2}))
    assert "sampling.samples" in str(caught.value)
    assert "sampling.top_p" in str(caught.value)


def test_changes_are_read_as_yaml_and_reach_missing_sections(tmp_path: Path) -> None:
    recipe = load_recipe(
        write_recipe(tmp_path), ("sampling.samples=4", "policy.endpoints=[http://127.0.0.1:2/v1]", "training=null")
    )
    assert recipe.sampling.samples == 4
    assert recipe.policy.endpoints == ("http://127.0.0.1:2/v1",)
    assert recipe.training is None


def test_the_settings_of_a_scorer_are_reached_by_its_name(tmp_path: Path) -> None:
    scorers = [{"scorer": "consensus"}, {"scorer": "quality"}]
    path = write_recipe(tmp_path, scoring={"scorers": scorers})
    recipe = load_recipe(path, ("scoring.scorers.quality.weight=2", "scoring.scorers.consensus.over=final"))
    assert recipe.scoring.scorers == (
        {"scorer": "consensus", "over": "final"},
        {"scorer": "quality", "weight": 2},
    )
    with pytest.raises(RecipeError, match="no scorer 'nobody'; it has: consensus, quality"):
        load_recipe(path, ("scoring.scorers.nobody.weight=2",))
    with pytest.raises(RecipeError, match=r"scoring\.scorers\.quality\.KEY=value"):
        load_recipe(path, ("scoring.scorers.quality=2",))
    with pytest.raises(RecipeError, match="weight is not a section"):
        load_recipe(path, ("scoring.scorers.quality.weight=2", "scoring.scorers.quality.weight.x.y=2"))


@pytest.mark.parametrize("change", ["sampling", "=4", "name.inner=4", "sampling.samples=[", "nosuch.key=1"])
def test_a_change_that_makes_no_sense_is_refused(tmp_path: Path, change: str) -> None:
    with pytest.raises(RecipeError):
        load_recipe(write_recipe(tmp_path), (change,))


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "\x00", ""])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.yaml: cannot read"):
        load_recipe(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    "change",
    [
        {"store": "s3://elsewhere/mill"},
        {"budget": {"calls": 5}},
        {"execution": {"concurrency": 3}},
        {"policy": SETTINGS["policy"] | {"endpoints": ["http://127.0.0.1:9/v1"]}},  # type: ignore[operator]
        {"policy": SETTINGS["policy"] | {"price": {"input_per_million": 3}}},  # type: ignore[operator]
        {"training": None},
        {"pairing": {"pairs_per_question": 1}},
        {"policy": SETTINGS["policy"] | {"reasoning": "auto"}},  # type: ignore[operator]
        {"embedding": {"truncate_tokens": None}},
        {"embedding": {"long_texts": "cut"}},  # a rule of the plan tells it from windows
    ],
)
def test_ways_of_running_do_not_change_what_is_made(change: dict[str, object]) -> None:
    assert parse_recipe(SETTINGS | change).identity() == parse_recipe(dict(SETTINGS)).identity()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"sampling": {"samples": 7}},
        {"execution": {"shard_size": 3}},
        {"policy": SETTINGS["policy"] | {"revision": "2"}},  # type: ignore[operator]
        {"dataset": {"name": "small", "licence": "mit"}},
        {"pairing": {"pairs_per_question": 2}},
        {"policy": SETTINGS["policy"] | {"reasoning": "keep"}},  # type: ignore[operator]
        {"embedding": {"truncate_tokens": 256}},
        {"embedding": {"max_tokens": 256}},
        {"embedding": {"long_texts": "refuse"}},
        {"embedding": {"prompt": "query: "}},
        {"embedding": {"task": "text-matching"}},
        {"embedding": {"dimensions": 128}},
    ],
)
def test_what_decides_the_data_changes_the_identity(change: dict[str, object]) -> None:
    assert parse_recipe(SETTINGS | change).identity() != parse_recipe(dict(SETTINGS)).identity()


# Taken before the modules moved into rooms: a plan's id depends on them, so another value would make every plan anew.
IDENTITIES = {
    "cascade": "cf132addb010b66e1ae393ff7b9c84ec4b86a8c940b7a6bb5a2bffaa406955ca",
    "demo-longreward": "78a4df34f1f859ea2528c3a63a8d11d0c3d136fd784476e954abd85f8626288e",
    "demo-sealong": "187a524d41a95d78767154f67999fc3403a2c49b1c01166fdf0e8de7ea92c640",
    "documents-sealong": "138471b49f928344d32d69314e715a47242a583172a9395518b9aa4eca2d60bb",
    # Its strategy is `plain` since `default` was seen to invite refusals; its embedder knows 100 languages.
    "longmab": "91420399e2ec82a8bda0f79f669756c1d76ca5bbaaa92ac6a6025253c76ce471",
    "longpo": "85e86af2849f6d56ad2c61737433a74b70c2d6048c1f1b0e2d8ff76791c217fb",
    "longreward": "461f98ce9cf846fecbaad284c7cd271a41bdb6d6f14376522bb49d67feee6012",
    "real-sealong": "9c36565674e9ac548d60c1f1ed8ae1d8fc161e5f2f03c474e14871d83757ec91",
    # Its contexts are whole articles, numbered without titles, since they are made as the paper's; so is its embedder.
    "sealong": "070ddf2f4add56ef2e6bb99360e08b37728312ae7f54c98718ec9bcf9c8fb72f",
}


def test_the_recipes_in_the_box_have_the_identity_that_they_had() -> None:
    assert {name: fingerprint(load_recipe(path).identity()) for name, path in BOX.items()} == IDENTITIES


def test_a_cascade_whose_judge_asks_all_at_once_is_named_as_before_a_scorer_could_come_last() -> None:
    plain = load_recipe(BOX["cascade"]).identity()
    assert "last" not in plain["scoring"]["cascade"]
    changed = load_recipe(BOX["cascade"], ('scoring.cascade.last=["completeness"]',)).identity()
    assert changed["scoring"]["cascade"]["last"] == ["completeness"]


def test_a_plan_of_one_pair_a_question_is_named_as_before_there_could_be_more() -> None:
    assert "pairs_per_question" not in parse_recipe(dict(SETTINGS)).identity()["pairing"]


def test_a_judge_that_does_not_think_is_named_as_before_there_could_be_another() -> None:
    judge = {"name": "j", "tokenizer": "x", "endpoints": ["http://127.0.0.1:9/v1"]}
    plain = parse_recipe(SETTINGS | {"judge": judge}).identity()
    assert not {"reasoning", "reasoning_tokens"} & plain["judge"].keys()
    for thinking in ({"reasoning": "always"}, {"reasoning_tokens": 9}):
        assert parse_recipe(SETTINGS | {"judge": judge | thinking}).identity() != plain


def test_a_model_needs_some_way_to_be_reached() -> None:
    with pytest.raises(RecipeError, match="policy: give endpoints, or serve"):
        parse_recipe(SETTINGS | {"policy": {"name": "m", "tokenizer": "t"}})


def test_every_key_is_documented() -> None:
    keys = list(recipe_keys())
    assert len(keys) > 80
    assert [key for key, _, meaning in keys if not meaning] == []


def test_recipes_cannot_be_changed_after_reading() -> None:
    recipe = parse_recipe(dict(SETTINGS))
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 4  # type: ignore[misc]
    assert isinstance(recipe, Recipe)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("policy.endpoints=[https://me:geheim@host/v1]", "policy.endpoints"),
        ("embedding.endpoint=https://me:geheim@host/v1", "embedding.endpoint"),
        ("questions.source=https://geheim@host/questions.jsonl", "questions.source"),
        ('policy.endpoints=["https://host/v1?token=geheim"]', "policy: endpoint https://host/v1: "),
        ("embedding.endpoint=https://host/v1#geheim", "embedding: endpoint https://host/v1: "),
        ("policy.headers={X-Gateway: geheim}", "policy.headers"),
    ],
)
def test_a_secret_in_a_recipe_is_refused_and_not_shown(change: str, key: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(copy.deepcopy(SETTINGS), changes=(change,))
    assert key in str(caught.value)
    assert "geheim" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "embedding",
    [
        {"max_tokens": 512, "truncate_tokens": 256},
        {"tokenizer": "microworld"},
        {"endpoint": "http://127.0.0.1:9/v1", "long_texts": "refuse"},
    ],
)
def test_settings_of_windows_that_contradict_each_other_are_refused(embedding: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="embedding: "):
        parse_recipe(SETTINGS | {"embedding": embedding})


def test_a_recipe_is_read_from_any_fsspec_url(tmp_path: Path) -> None:
    import fsspec

    text = (Path(__file__).parents[3] / "flows/recipes/demo-sealong.yaml").read_bytes()
    with fsspec.open("memory://recipes/demo.yaml", "wb") as file:
        file.write(text)
    (tmp_path / "demo.yaml").write_bytes(text)
    assert load_recipe("memory://recipes/demo.yaml") == load_recipe(f"file://{tmp_path}/demo.yaml")
    assert load_recipe("memory://recipes/demo.yaml", ("sampling.samples=3",)).sampling.samples == 3


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://recipes/nowhere.yaml", r"^memory://recipes/nowhere\.yaml: there is no such recipe"),
        ("odd://bucket/recipe.yaml", r"^odd://bucket/recipe\.yaml: cannot read the recipe .*AWS_ENDPOINT_URL"),
        ("https://me:secret@host/recipe.yaml", r"^https://host/recipe\.yaml: a URL with a user or password is refused"),
    ],
)
def test_a_recipe_that_cannot_be_read_from_its_url_is_named(url: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        load_recipe(url)
    assert "secret" not in str(error.value)

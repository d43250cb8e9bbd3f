"""Several models on the same questions: seeds, checkpoints, and that test questions have no say in a choice."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.comparing import models as module
from flows.comparing.models import Contender
from infra.errors import ContaminationError, EvaluationError
from infra.models.client import CallCounts
from infra.recipe import Recipe
from infra.store import open_store
from tasks.evaluation.compare import EvaluationRow
from tasks.evaluation.evaluate import SuiteQuestions
from tasks.evaluation.several import split_questions
from tasks.evaluation.suites import ActiveSuite, SuiteQuestion, SuiteSettings, find_suite
from tasks.records.example import Context, Example
from tests.support.planning import small_recipe

COUNT = 40


def question(number: int) -> SuiteQuestion:
    example = Example(f"q{number:02}", f"What is {number}?", f"context {number}", ("yes",), "qa", "en", "{}")
    return SuiteQuestion(example, Context(f"context {number}", "text", 1, (0,), (4,), ("",)))


QUESTIONS: SuiteQuestions = [(ActiveSuite(find_suite("qa"), SuiteSettings()), [question(n) for n in range(COUNT)])]


class World:
    """Models that answer right as `right` says, by name; remembers who was asked what."""

    def __init__(self, right: dict[str, set[str]]) -> None:
        self.right = right
        self.questions_of: dict[str, set[str]] = {}

    def rows(self, name: str, questions: SuiteQuestions) -> tuple[list[EvaluationRow], dict[str, CallCounts]]:
        rows = []
        for suite, of_suite in questions:
            for one in of_suite:
                example_id = one.example.example_id
                self.questions_of.setdefault(name, set()).add(example_id)
                score = float(example_id in self.right[name])
                scores = {"sub_em": score}
                rows.append(EvaluationRow(example_id, "qa", 9, False, "", "stop", True, scores, {}, suite.label))
        return rows, {"evaluate": CallCounts(made=len(rows))}


@pytest.fixture
def recipe(folder: Path) -> Recipe:
    return small_recipe(folder, evaluation={"resamples": 200})


def sides(recipe: Recipe) -> tuple[list[str], list[str]]:
    """The ids of the development and of the test questions."""
    split = split_questions(QUESTIONS, recipe, module.DEVELOPMENT)
    development, test = ([one.example.example_id for _, of_suite in side for one in of_suite] for side in split)
    return development, test


def compare(monkeypatch: pytest.MonkeyPatch, recipe: Recipe, world: World, *arguments: Any) -> dict[str, Any]:
    @contextlib.contextmanager
    def questions_and_servers(recipe: Recipe, manifest: str | None) -> Iterator[tuple[SuiteQuestions, Recipe]]:
        yield QUESTIONS, recipe

    def policy_rows(questions: SuiteQuestions, settings: Recipe, *_: Any, **__: Any) -> Any:
        return world.rows(settings.policy.name, questions)

    def trained_rows(questions: SuiteQuestions, settings: Recipe, trained: dict[str, Any], *_: Any, **__: Any) -> Any:
        return world.rows(trained["name"], questions)

    for name in ("questions_and_servers", "policy_rows", "trained_rows"):
        monkeypatch.setattr(module, name, locals()[name])
    monkeypatch.setattr(module, "announce", lambda *_: None)
    outcome: dict[str, Any] = module.compare_models.fn(recipe.model_dump(mode="json"), None, *arguments)
    return outcome


def contender(name: str, *seeds: str, step: int | None = None) -> dict[str, Any]:
    models = []
    for seed in seeds:
        models.append({"name": seed, "model": f"models/small/{seed}", "revision": seed, "kind": "adapter"})
    return Contender(name, tuple(models), step=step).to_json()


def all_ids() -> set[str]:
    return {one.example.example_id for one in QUESTIONS[0][1]}


def test_models_stand_beside_the_policy_and_seeds_are_one_model(
    monkeypatch: pytest.MonkeyPatch, recipe: Recipe
) -> None:
    half = {f"q{number:02}" for number in range(COUNT // 2)}
    world = World({recipe.policy.name: set(), "one": half, "first": half, "second": all_ids()})
    models = [contender("one", "one"), contender("seeded", "first", "second")]
    outcome = compare(monkeypatch, recipe, world, models)
    policy, one, seeded = outcome["models"]
    assert policy["suites"]["qa"]["sub_em"]["difference"] is None
    assert one["suites"]["qa"]["sub_em"]["figure"]["value"] == 0.5
    difference = seeded["suites"]["qa"]["sub_em"]["difference"]
    assert (seeded["seeds"], difference["value"], difference["n"]) == (2, 0.75, COUNT)
    assert difference["p_corrected"] >= difference["p"]
    assert difference["low"] <= 0.5  # a draw may have the first seed alone
    assert outcome["choice"] is None
    assert outcome["calls"]["evaluate seeded"]["made"] == 2 * COUNT
    report = json.loads(Path(outcome["report"], "report.json").read_text())
    assert report["command"].endswith("--model models/small/one --model seeded=models/small/first,models/small/second")


def test_the_checkpoint_is_chosen_on_development_questions_alone(
    monkeypatch: pytest.MonkeyPatch, recipe: Recipe
) -> None:
    development, test = sides(recipe)
    assert set(development) | set(test) == all_ids() and not set(development) & set(test)
    right = {
        recipe.policy.name: set(),
        "s10": set(test),  # the best on the test questions
        "s20": set(development[:5]),  # the best on the development questions
        "s30": set(development[:5]),  # as good, and later
        "s40": {development[0], test[0]},
    }
    world = World(right)
    steps = [contender(f"step {step}", f"s{step}", step=step) for step in (10, 20, 30, 40)]
    outcome = compare(monkeypatch, recipe, world, [], steps)
    choice = outcome["choice"]
    assert (choice["metric"], choice["step"], choice["development"], choice["test"]) == (
        "sub_em",
        20,
        len(development),
        len(test),
    )
    assert choice["curve"][0]["figure"]["value"] == 0
    assert [model["name"] for model in outcome["models"]] == [recipe.policy.name, "step 20", "step 40"]
    assert outcome["models"][1]["suites"]["qa"]["sub_em"]["figure"]["value"] == 0
    assert world.questions_of["s10"] == world.questions_of["s30"] == set(development)  # never a test question
    assert world.questions_of["s20"] == world.questions_of["s40"] == all_ids()
    folder = Path(outcome["report"])
    assert (folder / "plots/steps-dark.svg").exists()
    page = (folder / "report.html").read_text()
    assert f"Step 20 of 4 checkpoints has the highest SubEM on {len(development)} development questions" in page


def test_the_sides_depend_on_the_seed_and_not_on_the_questions(recipe: Recipe) -> None:
    development, _ = sides(recipe)
    suite, of_suite = QUESTIONS[0]
    fewer, _ = split_questions([(suite, of_suite[::-1][:30])], recipe, module.DEVELOPMENT)
    assert {one.example.example_id for one in fewer[0][1]} <= set(development)
    other, _ = sides(recipe.model_copy(update={"seed": 5}))
    assert other != development
    with pytest.raises(EvaluationError, match="no question is left for the"):
        split_questions([(suite, of_suite[:1])], recipe, module.DEVELOPMENT)


def test_a_metric_that_the_suite_has_not_is_refused(monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> None:
    world = World({recipe.policy.name: set(), "s10": set()})
    with pytest.raises(EvaluationError, match="--metric rating: qa measures sub_em"):
        compare(monkeypatch, recipe, world, [], [contender("step 10", "s10", step=10)], "rating")


def test_a_model_that_was_trained_on_the_questions_stops_the_comparison_before_a_call(
    monkeypatch: pytest.MonkeyPatch, recipe: Recipe
) -> None:
    def checked_overlap(*_: Any) -> None:
        raise ContaminationError("trained on")

    world = World({})
    monkeypatch.setattr(module, "checked_overlap", checked_overlap)
    with pytest.raises(ContaminationError):
        compare(monkeypatch, recipe, world, [contender("one", "one")])
    assert world.questions_of == {}


def test_contenders_are_found_by_their_folders(folder: Path, recipe: Recipe) -> None:
    from flows.cli.contenders import checkpoints_of, contenders_of
    from infra.errors import InputError, RecipeError

    store = open_store(recipe.store)
    for path, name, steps in (("a", "tiny-a", 8), ("a/checkpoints/4", "tiny-a-step-4", 4), ("b", "tiny-b", 8)):
        result = {"name": name, "model": f"models/tiny/{path}", "revision": path, "steps": steps}
        store.write(f"models/tiny/{path}/result.json", json.dumps(result).encode())
    store.write("models/tiny/a/checkpoints/10/result.json", json.dumps({"name": "n", "steps": 10}).encode())
    contenders = contenders_of(recipe.store, ["models/tiny/a", "two=models/tiny/a,models/tiny/b"], [])
    assert [one["name"] for one in contenders] == ["tiny-a", "two"]
    assert [one["step"] for one in checkpoints_of(recipe.store, "models/tiny/a")] == [4, 10]
    with pytest.raises(InputError, match="keep_checkpoints: true"):
        checkpoints_of(recipe.store, "models/tiny/b")
    with pytest.raises(RecipeError, match="give the seeds of one model a name"):
        contenders_of(recipe.store, ["models/tiny/a,models/tiny/b"], [])
    with pytest.raises(RecipeError, match="two models are called tiny-a"):
        contenders_of(recipe.store, ["models/tiny/a", "models/tiny/a"], [])

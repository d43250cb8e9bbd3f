"""Calibrating a verifier: the temperature, the two thresholds, and the file that names them."""

import itertools
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import InputError, RecipeError
from infra.recipe import Recipe
from infra.store import open_store
from tasks.judging.calibration import Calibration, fit_calibration, load_calibration
from tasks.judging.verifier_settings import VerifierSettings, verifier_settings
from tests.support.scripted_judge import judged_recipe

VERIFIER = VerifierSettings(model="m")


def recipe_with_verifier(store: Path, **verifier: object) -> Recipe:
    return judged_recipe({"scorer": "faithfulness", "verifier": {"model": "m", **verifier}}, store=str(store))


def right_verdicts(calibration: Calibration, logits: list[float], supports: list[float]) -> int:
    verdicts = [calibration.support(calibration.probability(logit)) for logit in logits]
    return sum(verdict == support for verdict, support in zip(verdicts, supports, strict=True))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(-6, 6), st.sampled_from([0.0, 0.5, 1.0])), min_size=40, max_size=60))
def test_no_other_thresholds_give_more_of_the_judges_verdicts(verdicts: list[tuple[int, float]]) -> None:
    logits, supports = [float(logit) for logit, _ in verdicts], [support for _, support in verdicts]
    if len(set(supports)) < 2:
        return
    fitted = fit_calibration(logits, supports, {})
    edges = [fitted.probability(number + 0.5) for number in range(-7, 7)]
    best = 0
    for low, high in itertools.combinations_with_replacement(edges, 2):
        best = max(best, right_verdicts(Calibration(fitted.temperature, low, high), logits, supports))
    assert right_verdicts(fitted, logits, supports) == best
    assert fitted.low <= fitted.high


def test_the_temperature_is_that_of_the_judges_verdicts() -> None:
    draw = random.Random(3)
    logits = [draw.uniform(-12, 12) for _ in range(4000)]
    scale = Calibration(4.0, 0.5, 0.5)
    supports = [float(draw.random() < scale.probability(logit)) for logit in logits]
    fitted = fit_calibration(logits, supports, {})
    assert fitted.temperature == pytest.approx(4.0, rel=0.15)
    assert fitted.low == fitted.high == pytest.approx(0.5, abs=0.1)  # the judge never says "partially"
    assert fitted.share_near(0.2) == pytest.approx(
        sum(fitted.distance(fitted.probability(logit)) < 0.2 for logit in logits) / len(logits), abs=0.01
    )


def test_too_few_verdicts_are_refused() -> None:
    with pytest.raises(InputError, match="39 verdicts of the judge, 2 of them different"):
        fit_calibration([1.0] * 39, [1.0] * 38 + [0.0], {})
    with pytest.raises(InputError, match="60 verdicts of the judge, 1 of them different"):
        fit_calibration([1.0] * 60, [1.0] * 60, {})


def test_a_calibration_is_named_by_its_content(tmp_path: Path) -> None:
    calibration = Calibration(2.0, 0.3, 0.6, VERIFIER.identity())
    path = calibration.write(open_store(str(tmp_path)))
    recipe = recipe_with_verifier(tmp_path, calibration=path)
    own = verifier_settings(recipe)
    assert own is not None
    assert load_calibration(recipe, own) == calibration

    changed = tmp_path / "verifiers" / "0123456789abcdef.json"
    changed.write_bytes((tmp_path / path).read_bytes())
    recipe = recipe_with_verifier(tmp_path, calibration="verifiers/0123456789abcdef.json")
    with pytest.raises(RecipeError, match="its name is not the hash of its content"):
        load_calibration(recipe, own.model_copy(update={"calibration": "verifiers/0123456789abcdef.json"}))


def test_another_models_calibration_is_refused(tmp_path: Path) -> None:
    path = Calibration(2.0, 0.3, 0.6, VERIFIER.identity()).write(open_store(str(tmp_path)))
    other = VerifierSettings(model="other", calibration=path)
    with pytest.raises(RecipeError, match="was made for 'm' with other settings"):
        load_calibration(recipe_with_verifier(tmp_path), other)
    # where it runs, and what is left to the judge, are not part of what its numbers depend on
    same = VerifierSettings(model="m", calibration=path, endpoint="http://127.0.0.1:9/v1", ask_judge_within=0.1)
    load_calibration(recipe_with_verifier(tmp_path), same)


def test_a_recipe_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"faithfulness\.verifier\.calibration.*longmill agreement DATASET"):
        load_calibration(recipe_with_verifier(tmp_path), VERIFIER)


def test_plans_depend_on_the_verifier_and_not_on_where_it_runs(tmp_path: Path) -> None:
    def identity(**scorer: object) -> str:
        return json.dumps(judged_recipe({"scorer": "faithfulness", **scorer}).identity(), sort_keys=True)

    plain = identity()
    assert identity(verifier=None, control_share=0) == plain
    verifier = {"model": "m", "calibration": "verifiers/a.json"}
    with_one = identity(verifier=verifier)
    assert with_one != plain
    places = {"endpoint": "http://127.0.0.1:9/v1", "api_key_env": "K", "price": {"input_per_million": 2.0}}
    assert identity(verifier={**verifier, **places}) == with_one
    assert identity(verifier={**verifier, "calibration": "verifiers/b.json"}) != with_one
    assert identity(control_share=0.1) != plain


@pytest.mark.parametrize(
    ("labels", "names", "logits", "probability"),
    [
        (None, ["entailment", "neutral", "contradiction"], [0.0, 0.0, 0.0], 1 / 3),
        ({"0": 1.0, "1": 0.5}, ["A", "B", "C"], [0.0, 0.0, 0.0], 0.5),
        ({"yes": 1.0}, ["no", "yes"], [0.0, 0.0], 0.5),
        (None, ["LABEL_0"], [0.0], 0.5),
    ],
)
def test_labels_say_what_supports(
    labels: dict[str, float] | None, names: list[str], logits: list[float], probability: float
) -> None:
    own = VerifierSettings(model="m", labels=labels)
    number = own.support_logit(logits, names)
    assert number is not None
    assert Calibration(1.0, 0.5, 0.5).probability(number) == pytest.approx(probability, abs=1e-3)
    assert own.support_logit([float("nan"), *logits[1:]], names) is None


def test_labels_that_say_nothing_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"verifier\.labels: 'm' has the labels LABEL_0, LABEL_1"):
        VerifierSettings(model="m").support_logit([0.0, 1.0], ["LABEL_0", "LABEL_1"])

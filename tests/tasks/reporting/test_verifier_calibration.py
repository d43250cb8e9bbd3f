"""Calibrating a verifier on a published dataset, whose evidence has the judge's verdicts."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from infra.canonical import text_id
from infra.errors import InputError, RecipeError
from infra.store import open_store
from tasks.judging.calibration import Calibration, load_calibration
from tasks.judging.verifier_settings import verifier_settings
from tasks.records.reader import read_dataset
from tasks.reporting.verifier_calibration import calibrate_verifier, judged_facts
from tests.support.longreward import CONTEXT, longreward_recipe, publish_longreward
from tests.support.published import fake_plan, fake_recipe
from tests.support.score_server import MODEL, running_scores
from tests.support.scripted_judge import judged_recipe

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("mill")
    return publish_longreward(open_store(str(place)), longreward_recipe(place), 120).folder


def verifier_recipe(store: Path, url: str) -> dict[str, object]:
    verifier = {"model": MODEL, "endpoint": url}
    recipe = judged_recipe({"scorer": "faithfulness", "verifier": verifier}, store=str(store))
    return recipe.model_dump(mode="json")


def test_the_judges_verdicts_come_with_their_passages(folder: str) -> None:
    facts = list(judged_facts(read_dataset(folder)))
    texts = {fact.statement.text: fact for fact in facts if fact.example_id == "arden-000"}
    architect = texts["Ilse Brandt was the architect."]
    assert architect.support == 1.0
    assert "Its architect, Ilse Brandt, was born in Lübeck." in architect.statement.passages
    assert architect.statement.passages != CONTEXT
    assert len(facts) == len({(fact.example_id, fact.statement.text) for fact in facts})


def test_a_calibration_is_written_and_measured_on_other_questions(folder: str, tmp_path: Path) -> None:
    facts = list(judged_facts(read_dataset(folder)))
    numbers = dict(
        zip(sorted({fact.statement.text for fact in facts}), (4.0, -1.0, -5.0, 2.0, 3.0, -3.0), strict=False)
    )

    def number(text: str) -> list[float]:
        """A number for each statement, whatever the judge has said."""
        return [numbers.get(text.rpartition("\n")[2], 0.0)]

    with running_scores(number, routes=("score",)) as server:
        settings = verifier_recipe(tmp_path, server.url)
        path = tmp_path / "recipe.yaml"
        path.write_text(json.dumps(settings), encoding="utf-8")
        ended = CliRunner().invoke(app, ["agreement", folder, "--verifier", str(path), "--json"])
        assert ended.exit_code == 0, ended.output
        view = json.loads(ended.stdout)
        calls = len(server.bodies)
        shown = CliRunner().invoke(app, ["agreement", folder, "--verifier", str(path)])
        assert len(server.bodies) == calls  # the ledger has every number
    assert view["facts"]["fitted"] + view["facts"]["measured"] == len(facts)
    assert view["facts"]["measured"] > 0
    calibration = Calibration(view["temperature"], view["low"], view["high"])
    agreed = []
    for fact in facts:
        if int(text_id(f"calibration {fact.example_id}")[0], 16) % 2:  # the half that nothing was fitted on
            probability = calibration.probability(numbers.get(fact.statement.text, 0.0))
            agreed.append(calibration.support(probability) == fact.support)
    assert 0 < sum(agreed) < len(agreed)
    assert view["agreement"]["all"]["agreement"]["value"] == pytest.approx(sum(agreed) / len(agreed), abs=1e-6)
    assert view["agreement"]["language en"]["n"] == view["agreement"]["all"]["n"] == view["facts"]["measured"]
    assert [row["within"] for row in view["within"]][:2] == [0.0, 0.05]
    value = pytest.approx(sum(agreed) / len(agreed), abs=1e-4)
    assert view["within"][0] == {"within": 0.0, "share": 0.0, "verifier": value, "all": value}
    assert [row["all"] for row in view["within"]] == sorted(row["all"] for row in view["within"])
    assert f"calibration: {view['calibration']}" in shown.output
    recipe = judged_recipe(
        {"scorer": "faithfulness", "verifier": {"model": MODEL, "calibration": view["calibration"]}},
        store=str(tmp_path),
    )
    own = verifier_settings(recipe)
    assert own is not None
    assert load_calibration(recipe, own).high == view["high"]


def test_what_cannot_be_calibrated_is_named(folder: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"the recipe has no faithfulness\.verifier"):
        calibrate_verifier(folder, judged_recipe())
    store = open_store(str(tmp_path / "other"))
    from tasks.publishing import publish

    recipe = fake_recipe(tmp_path / "other")
    plain = publish(*fake_plan(store, recipe), recipe, store).folder
    own = judged_recipe({"scorer": "faithfulness", "verifier": {"model": "m"}}, store=str(tmp_path))
    with pytest.raises(InputError, match="no verdict of a judge on a fact"):
        calibrate_verifier(plain, own)

"""The list of pairs, one pair from its scores to the passages of its facts, and agreement, all from a dataset."""

import json
from pathlib import Path

import pytest

from infra.errors import InputError
from infra.store import open_store
from tasks.publishing import publish
from tasks.records.reader import read_dataset
from tasks.reporting.dataset_views import agreement_view, pair_list, pair_view
from tasks.reporting.learnt_weights import weights_view
from tests.support.longreward import CONTEXT, longreward_recipe, publish_longreward
from tests.support.published import fake_plan, fake_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("mill")
    return publish_longreward(open_store(str(place)), longreward_recipe(place), 12).folder


@pytest.mark.medium
def test_a_fact_leads_to_its_verdict_and_passages(folder: str) -> None:
    view = pair_view(read_dataset(folder), "arden-000")
    assert view["context"]["characters"] == len(CONTEXT)
    chosen, rejected = view["answers"]["chosen"], view["answers"]["rejected"]
    assert (chosen["index"], chosen["reward"]) == (0, 9.0)
    fact = chosen["facts"][0]
    assert (fact["text"], fact["support"], fact["reply"]) == (
        "Ilse Brandt was the architect.",
        1.0,
        "[[Fully supported]]",
    )
    for passage in fact["passages"]:
        assert passage["text"] == CONTEXT[passage["start"] : passage["end"]]
    assert "Its architect, Ilse Brandt" in fact["passages"][fact["nearest"]]["text"]
    assert [fact["support"] for fact in rejected["facts"]] == [0.0, 0.5]
    scores = {score["scorer"]: score["score"] for score in rejected["scores"]}
    assert scores == {"helpfulness": 5.0, "logicality": 8.0, "completeness": 4.0, "faithfulness": 2.5}
    assert [note["text"] for note in view["notes"]] == ["Opened in 1931.", None]
    assert json.loads(json.dumps(view)) == view


def test_the_list_counts_the_pairs_that_it_leaves_out(folder: str) -> None:
    view = pair_list(read_dataset(folder), 5)
    assert (view["pairs"], view["more"], len(view["rows"])) == (12, 7, 5)
    assert view["rows"][0]["margin"] == 4.125


def test_a_wrong_id_is_answered_with_near_ones(folder: str) -> None:
    dataset = read_dataset(folder)
    with pytest.raises(InputError, match=r"no pair 'ardn-003'; near it: arden-003"):
        pair_view(dataset, "ardn-003")
    with pytest.raises(InputError, match=r"several pairs begin with 'arden-00'.*arden-000"):
        pair_view(dataset, "arden-00")
    with pytest.raises(InputError, match=r"gave no pair; dropped: duplicate_id \(row 9\)"):
        pair_view(dataset, "arden-none")


def test_agreement_from_the_dataset_is_that_of_its_summary(folder: str) -> None:
    view = agreement_view(folder)
    summary = json.loads(Path(folder, "summary.json").read_text(encoding="utf-8"))
    assert view["gold"] == "references"
    assert json.loads(json.dumps(view["agreement"])) == summary["agreement"]
    assert view["judging"]["saved"] == summary["judging"]["saved"]
    assert view["rejudged"] is None


@pytest.mark.medium
def test_the_hand_made_question_agrees_as_computed_by_hand(tmp_path: Path) -> None:
    """Gold values 1, 0, 0.5, 0: preferences 0>1, 0>2, 0>3, 2>1, 2>3. Logicality 8, 8, 7, 3: 0.5 + 1 + 1 + 0 + 1."""
    dataset = publish_longreward(open_store(str(tmp_path)), longreward_recipe(tmp_path))
    agreement = agreement_view(dataset.folder)["agreement"]
    assert agreement["pairs"] == 5
    assert agreement["dimensions"]["logicality"]["accuracy"] == 0.7
    assert agreement["dimensions"]["helpfulness"]["missing"] == {"no_rating": 2}
    assert agreement["dimensions"]["faithfulness"]["missing"] == {"pruned": 3}
    assert agreement["mean"]["missing"] == {"no_rating": 2, "pruned": 2}
    assert pair_view(read_dataset(dataset.folder), "ard")["example_id"] == "arden-000"  # the one id that begins so


def test_labels_replace_the_references(folder: str, tmp_path: Path) -> None:
    rows = [
        {"example_id": "arden-000", "first": 0, "second": 1, "preferred": "first"},
        {"example_id": "arden-000", "first": 1, "second": 0, "preferred": "first"},
        {"example_id": "elsewhere", "first": 1, "second": 0, "preferred": "first"},
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    view = agreement_view(folder, str(path))
    assert (view["gold"], view["agreement"]["pairs"], view["agreement"]["mean"]["accuracy"]) == ("labels", 2, 0.5)
    assert [location.rpartition(", ")[2] for location in view["unknown_labels"]] == ["row 3"]
    path.write_text(json.dumps(rows[2]) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="no label is about answers of"):
        agreement_view(folder, str(path))


@pytest.mark.medium
def test_a_dataset_is_compared_with_itself_and_with_another(folder: str, tmp_path: Path) -> None:
    rejudged = agreement_view(folder, other=folder)["rejudged"]
    assert rejudged["preferences"]["kappa"]["value"] == 1.0
    assert rejudged["ratings"]["faithfulness"]["unchanged"] == 1.0
    fewer = publish_longreward(open_store(str(tmp_path)), longreward_recipe(tmp_path), 1).folder
    assert agreement_view(folder, other=fewer)["rejudged"]["answers"] == 4


@pytest.mark.medium
def test_each_pair_of_a_question_is_listed_and_shown_by_its_number(tmp_path: Path) -> None:
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path, pairs=3, test_fraction=0.0)
    folder = publish(*fake_plan(store, recipe, shards=1), recipe, store).folder
    dataset = read_dataset(folder)
    rows = [(row["example_id"], row["number"]) for row in pair_list(dataset, 6)["rows"]]
    assert rows == [("q00000", 1), ("q00001", 1), ("q00001", 2), ("q00002", 1), ("q00002", 2), ("q00002", 3)]
    view = pair_view(dataset, "q00002", 2)
    assert (view["number"], view["of"]) == (2, 3)
    assert [view["answers"][side]["index"] for side in ("chosen", "rejected")] == [1, 2]
    assert view["answers"]["rejected"]["scores"][0]["score"] == view["answers"]["rejected"]["reward"]
    with pytest.raises(InputError, match="question q00001 has 2 pairs and no pair 3"):
        pair_view(dataset, "q00001", 3)
    summary = json.loads(Path(folder, "summary.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(agreement_view(folder)["judging"])) == summary["judging"]
    assert summary["judging"]["length"]["longer_chosen"]["n"] == 5


@pytest.mark.medium
def test_weights_are_learnt_on_one_half_of_the_contexts_and_measured_on_the_other(tmp_path: Path) -> None:
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path)
    plan, results = fake_plan(store, recipe, shards=4, questions=10)
    place = store.place(publish(plan, results, recipe, store).path)
    view = weights_view(place)
    assert view["weights"] == {"consensus": 1.0}
    assert view["learnt_on"] > 5
    assert view["measured_on"] > 5
    picks = view["picks"]
    assert picks["learnt - now"]["value"] == 0  # one scorer chooses the same, whatever its weight
    assert picks["now"]["value"] <= picks["oracle"]["value"]
    assert weights_view(place) == view

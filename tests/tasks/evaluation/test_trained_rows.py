"""What a model was trained on is found by its job, and measured once."""

import json
from pathlib import Path

import pytest

from infra.store import Store, open_store
from tasks.evaluation import trained_rows as module
from tasks.evaluation.trained_rows import overlap_with_training, training_manifest, training_rows
from tasks.publishing import publish
from tasks.records.example import Context, Example
from tasks.records.plan import load_shard
from tasks.records.reader import open_dataset
from tests.support.published import fake_plan, fake_recipe

pytestmark = pytest.mark.medium

TRAINED = {"name": "fake-abc", "model": "models/fake/abc", "revision": "abc", "kind": "adapter"}


@pytest.fixture
def published(tmp_path: Path) -> tuple[Store, str, list[tuple[Example, Context]]]:
    """A store, the manifest in it, and all questions of its plan."""
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path)
    plan, results = fake_plan(store, recipe, shards=1, questions=12)
    dataset = publish(plan, results, recipe, store).to_json()
    examples, contexts = load_shard(store, plan, 0)
    return store, dataset["manifest"], [(example, contexts[example.context_id]) for example in examples]


def test_the_rows_are_the_train_questions_once_with_their_prompts(
    published: tuple[Store, str, list[tuple[Example, Context]]],
) -> None:
    store, manifest, posed = published
    rows = list(training_rows(open_dataset(store, manifest)))
    contexts = {example.example_id: context for example, context in posed}
    assert len(rows) == len({row.row_id for row in rows}) > 2
    for row in rows:
        assert contexts[row.row_id].text in row.text
        assert row.question in row.text


def test_questions_that_were_trained_on_leak_and_the_measurement_is_stored(
    published: tuple[Store, str, list[tuple[Example, Context]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, manifest, posed = published
    trained_ids = {row.row_id for row in training_rows(open_dataset(store, manifest))}
    overlap = overlap_with_training(store, posed, manifest, TRAINED)
    assert overlap is not None
    assert trained_ids <= {leak.example_id for leak in overlap.leaks}
    assert overlap.rows == len(trained_ids)
    monkeypatch.setattr(module, "measure_overlap", None)
    assert overlap_with_training(store, posed, manifest, TRAINED) == overlap


def test_a_model_s_job_says_what_it_was_trained_on(published: tuple[Store, str, list[tuple[Example, Context]]]) -> None:
    store, manifest, posed = published
    sha256 = open_dataset(store, manifest).sha256
    job = {"manifest": sha256, "dataset": "fake"}
    store.write("models/fake/abc/job.json", json.dumps(job).encode())
    assert training_manifest(store, None, TRAINED) == manifest
    store.write("models/fake/abc/job.json", json.dumps({**job, "manifest": None}).encode())
    assert training_manifest(store, manifest, TRAINED) is None  # on pairs of others
    assert overlap_with_training(store, posed, manifest, TRAINED) is None
    assert training_manifest(store, manifest, None) == manifest

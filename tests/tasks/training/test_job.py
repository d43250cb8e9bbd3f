"""A job from the manifest to the model in the store, through accelerate's subprocess."""

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from infra.canonical import fingerprint
from infra.errors import RecipeError, StoreError, TrainingError
from infra.recipe import Training
from infra.store import open_store
from tasks.training.base_identity import base_identity
from tasks.training.checkpoints import COMPLETE
from tasks.training.job import TrainingJob, TrainingResult, job_id, stored_training, train
from tasks.training.mixing import read_short_pairs
from tasks.training.published import read_train_split
from tasks.training.settings import RunConfig
from tests.support.killing import kill_at
from tests.support.tiny_model import pair_row, pair_rows, publish_rows, save_tiny, tiny_model

QUICK = {
    "dtype": "float32",
    "lora_rank": 4,
    "lora_alpha": 8,
    "learning_rate": 1e-3,
    "batch_size": 2,
    "gradient_checkpointing": False,
}


def _job(tmp_path: Path, rows: int = 8, **changes: Any) -> TrainingJob:
    """A job over its own store; the working folder lies beside it."""
    base = tmp_path / "base"
    if not base.exists():
        save_tiny(base)
    store = tmp_path / "mill"
    manifest = "datasets/tiny/v1/manifest.json"
    if not (store / manifest).exists():
        publish_rows(store, pair_rows(rows))
    settings = Training.model_validate({**QUICK, **changes})
    return TrainingJob(open_store(str(store)), manifest, settings, str(base), "main", tmp_path / "work", seed=1)


def test_the_id_depends_on_what_is_trained_and_not_on_how_it_runs(tmp_path: Path) -> None:
    job = _job(tmp_path)
    published = read_train_split(job.store, job.manifest)

    def identity(**changes: Any) -> str:
        changed = dataclasses.replace(job, **changes)
        return job_id(changed, published, read_short_pairs(changed.settings.mix))

    def settings(**changes: Any) -> dict[str, Any]:
        return {"settings": job.settings.model_copy(update=changes)}

    same = identity()
    assert identity(folder=tmp_path / "other") == identity(**settings(save_steps=7)) == same
    assert identity(**settings(keep_checkpoints=True)) == same
    moved = tmp_path / "moved"
    (tmp_path / "base").rename(moved)
    assert identity(base=str(moved)) == same
    others = [
        identity(base=str(moved), seed=2),
        identity(base=str(moved), base_revision="next"),
        identity(base=str(moved), **settings(beta=0.2)),
        identity(base=str(moved), **settings(sharing="off")),
    ]
    tiny_model(layers=1).save_pretrained(moved)
    others.append(identity(base=str(moved)))
    assert len({same, *others}) == 6


def test_reasoning_renames_only_the_jobs_that_train_it(tmp_path: Path) -> None:
    job = _job(tmp_path)
    published = read_train_split(job.store, job.manifest)
    with_reasoning = dataclasses.replace(job, settings=job.settings.model_copy(update={"reasoning": "keep"}))
    told_not_to_think = dataclasses.replace(job, template_arguments={"enable_thinking": False})
    ids = {job_id(other, published, None) for other in (job, with_reasoning, told_not_to_think)}
    assert len(ids) == 3


def test_max_steps_as_a_cap_renames_only_the_jobs_that_it_changes(tmp_path: Path) -> None:
    """Before, max_steps overrode the epochs: where both give the same steps, a trained job stays what it is."""
    job = _job(tmp_path)  # 8 questions, 2 a step
    published = read_train_split(job.store, job.manifest)

    def identity(**changes: Any) -> str:
        return job_id(dataclasses.replace(job, settings=job.settings.model_copy(update=changes)), published, None)

    def identity_before(**changes: Any) -> str:
        """As job ids were made before."""
        settings = job.settings.model_copy(update=changes).model_dump(mode="json")
        new = ("keep_checkpoints", "gradient_checkpointing", "offload_activations", "over_length", "mix", "reasoning")
        for name in ("save_steps", "report_to", *new):
            del settings[name]
        base = {"base": base_identity(job.base), "base_revision": job.base_revision, "seed": job.seed}
        return fingerprint({"manifest": published.sha256, "settings": settings, **base})[:16]

    assert identity() == identity_before()
    assert identity(over_length="stop") == identity_before()
    assert identity(max_steps=3) == identity_before(max_steps=3)
    assert identity(max_steps=4) == identity_before(max_steps=4)
    assert identity(max_steps=5) != identity_before(max_steps=5)  # was 5 steps, is 4
    assert identity(max_steps=8, epochs=2) == identity_before(max_steps=8, epochs=2)


def test_a_model_without_some_pairs_is_no_result_where_each_must_be_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [*pair_rows(8), pair_row(9, "x" * 200, "a", "b")]
    publish_rows(tmp_path / "mill", long)
    job = _job(tmp_path, max_length=150)
    stop = dataclasses.replace(job, settings=job.settings.model_copy(update={"over_length": "stop"}))

    def launch(config: RunConfig, **_: Any) -> None:
        assert (config.lengths.rows, config.lengths.dropped_pairs) == (8, 1)
        config.output.mkdir()
        config.progress.write_text('{"step": 1, "total_steps": 4, "loss": 1.0, "lr": 0.1}\n')
        (config.output / "adapter_config.json").write_text('{"target_modules": []}')
        summary = {"steps": 4, "changed": 1, "tensors": 1, "sharing": ""}
        (config.output / "summary.json").write_text(json.dumps(summary))

    monkeypatch.setattr("tasks.training.job.launch", launch)
    with pytest.raises(TrainingError, match=r"1 of 9 pairs .*over_length is stop.*example-9"):
        train(stop)
    result = train(job)
    assert (result.steps, result.epochs, result.rows, result.dropped_pairs) == (4, 1.0, 8, 1)
    folder = tmp_path / "mill" / result.model
    assert json.loads((folder / "job.json").read_text())["dropped"] == {"long": 1, "short": 0}
    card = (folder / "README.md").read_text()
    assert "optimiser steps: 4, 1 epoch of 8 questions\n" in card
    assert "1 pairs longer than 150 tokens were left out" in card
    assert stored_training(job) == result
    assert stored_training(stop) is None
    with pytest.raises(TrainingError, match=r"1 of 9 pairs .*over_length is stop"):
        train(stop)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"loss": "ppo"}, RecipeError, "no loss 'ppo'"),
        ({"schedule": "cosinus"}, RecipeError, "training.schedule"),
        ({"batch_size": 3, "device_batch_size": 2}, RecipeError, "not a multiple"),
        ({"accelerate_config": "/nowhere.yaml"}, RecipeError, "accelerate_config"),
        ({"pack_tokens": 500, "loss": "sft"}, RecipeError, "training.pack_tokens"),
        ({"pack_tokens": 500, "sharing": "off"}, RecipeError, "set pack_tokens to null"),
        ({"max_length": 40}, TrainingError, "longest is of example example-"),
    ],
)
def test_what_cannot_work_is_refused_before_a_subprocess_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("started")

    monkeypatch.setattr("tasks.training.job.launch", started)
    with pytest.raises(error, match=words):
        train(_job(tmp_path, **changes))


def test_a_changed_dataset_is_refused(tmp_path: Path) -> None:
    job = _job(tmp_path)
    file = next((tmp_path / "mill/datasets").rglob("0000-*.parquet"))
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(StoreError, match="sha256"):
        train(job)


@pytest.mark.slow
def test_a_job_ends_with_an_adapter_in_the_store_and_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tasks").mkdir()  # must not be imported in place of ours
    (tmp_path / "tasks/__init__.py").write_text("raise RuntimeError('the wrong package')")
    monkeypatch.chdir(tmp_path)
    job = _job(tmp_path, epochs=2, save_steps=3, keep_checkpoints=True)
    capfd.readouterr()
    steps: list[dict[str, Any]] = []
    result = train(job, on_step=steps.append)
    assert capfd.readouterr() == ("", "")
    assert [step["step"] for step in steps] == list(range(1, 9))
    assert {step["total_steps"] for step in steps} == {8}
    assert {"loss", "lr", "grad_norm", "margin"} <= set(steps[0])
    assert (result.steps, result.rows, result.kind) == (8, 8, "adapter")
    assert result.tensors_changed == result.tensors == 14  # 2 layers of 7 linear layers
    folder = job.store.local_path(result.model)
    assert folder is not None
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "checkpoints",
        "job.json",
        "metrics.parquet",
        "result.json",
        "training.png",
    ]
    _check_checkpoints(folder, result)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"], config["lora_dropout"]) == ("base", 4, 0.05)
    assert pq.read_table(folder / "metrics.parquet").column("loss").to_pylist() == [step["loss"] for step in steps]
    work = tmp_path / "work/training" / result.revision
    assert sorted(path.name for path in work.iterdir() if path.is_dir()) == []
    monkeypatch.setattr("tasks.training.job.launch", None)
    assert train(job) == stored_training(job) == result
    job.store.delete(*job.store.list(f"{result.model}/checkpoints"))
    assert stored_training(job) is None  # they are asked for, so the job trains again
    assert stored_training(
        dataclasses.replace(job, settings=job.settings.model_copy(update={"keep_checkpoints": False}))
    )


def _check_checkpoints(folder: Path, result: TrainingResult) -> None:
    """Every third step and the last are models of their own; the last is the trained model."""
    names = ["adapter_config.json", "adapter_model.safetensors", "job.json", "result.json"]
    for step in ("3", "6", "8"):
        checkpoint = folder / "checkpoints" / step
        assert sorted(path.name for path in checkpoint.iterdir()) == names
        stored = json.loads((checkpoint / "result.json").read_text())
        assert (stored["steps"], stored["name"]) == (int(step), f"{result.name}-step-{step}")
        assert stored["model"] == f"{result.model}/checkpoints/{step}"
        assert "base" in json.loads((checkpoint / "adapter_config.json").read_text())["base_model_name_or_path"]
    weights = [(folder / "checkpoints" / step / names[1]).read_bytes() for step in ("3", "6", "8")]
    assert len(set(weights)) == 3
    assert weights[2] == (folder / names[1]).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "dpo", "sft_weight": 0.1, "dtype": "bfloat16", "gradient_checkpointing": True},
        {"loss": "sft", "method": "full", "dtype": "bfloat16"},
    ],
    ids=lambda changes: changes["loss"],
)
def test_the_other_losses_train_too(tmp_path: Path, changes: dict[str, Any]) -> None:
    from safetensors import safe_open

    result = train(_job(tmp_path, epochs=2, device_batch_size=2, **changes))
    assert (result.steps, result.rows) == (8, 8)
    assert result.tensors_changed == result.tensors
    assert result.last_loss < result.first_loss
    name = "model.safetensors" if result.kind == "full" else "adapter_model.safetensors"
    with safe_open(tmp_path / "mill" / result.model / name, "pt") as weights:
        dtypes = {str(weights.get_tensor(key).dtype) for key in weights.keys()}  # noqa: SIM118 - not a mapping
    assert dtypes == ({"torch.bfloat16"} if result.kind == "full" else {"torch.float32"})


@pytest.mark.slow
def test_a_run_that_was_killed_resumes_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    changes = {"epochs": 15, "save_steps": 5, "max_length": 100, "lora_dropout": 0.1, "pack_tokens": 400}
    whole = train(_job(tmp_path / "whole", **changes))
    job = _job(tmp_path / "killed", **changes)

    with pytest.raises(TrainingError, match=r"was killed.*the same command again"):
        train(job, on_step=kill_at(7))
    log = next((tmp_path / "killed/work").rglob("train.log"))
    lines_before = log.read_text().count("'grad_norm'")
    checkpoints = [path.parent for path in (tmp_path / "killed/work").rglob(COMPLETE)]
    reached = max(int(path.name.rpartition("-")[2]) for path in checkpoints)
    for path in checkpoints:
        (path / "training_args.bin").write_bytes(b"not a pickle")  # and nothing may try to load it
    steps: list[int] = []
    result = train(job, on_step=lambda step: steps.append(step["step"]))
    assert steps == list(range(1, 61))
    assert result == whole
    assert log.read_text().count("'grad_norm'") - lines_before == 60 - reached  # the others were not made again
    weights = [
        (tmp_path / name / "mill" / result.model / "adapter_model.safetensors").read_bytes()
        for name in ("whole", "killed")
    ]
    assert weights[0] == weights[1]
    metrics = [
        (tmp_path / name / "mill" / result.model / "metrics.parquet").read_bytes() for name in ("whole", "killed")
    ]
    assert metrics[0] == metrics[1]


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_stops_the_run_with_the_step_and_the_log(tmp_path: Path) -> None:
    import torch

    job = _job(tmp_path)
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(TrainingError, match=r"loss of step 1 is nan.*train\.log"):
        train(job)
    assert stored_training(job) is None
    assert list((tmp_path / "mill/models").rglob("*")) == []


@pytest.mark.slow
def test_a_subprocess_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    job = _job(tmp_path)
    (tmp_path / "base/model.safetensors").write_bytes(b"no weights")
    with pytest.raises(
        TrainingError, match=r"status 1; run the same command again.*train\.log:\n(.|\n)*SafetensorError"
    ):
        train(job)


@pytest.mark.slow
def test_one_job_is_trained_once_at_a_time(tmp_path: Path) -> None:
    job = _job(tmp_path, epochs=20)
    second: list[BaseException] = []
    tried = threading.Event()

    def try_another(_: dict[str, Any]) -> None:
        if not tried.is_set():
            tried.set()
            try:
                train(job)
            except TrainingError as error:
                second.append(error)

    train(job, on_step=try_another)
    assert len(second) == 1 and "another process trains this job" in str(second[0])

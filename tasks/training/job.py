"""What to train, and training it: gate, subprocess, outputs, and the model in the store.

A job's id is the fingerprint of the data (a manifest, or others' pairs), the rows mixed in, the settings, the base
model and the seed. Its working folder is `<folder>/training/<id>`; a run that was stopped resumes there from its last
complete checkpoint. The model goes to `models/<dataset>/<id>/` in the store, `result.json` last: a job that has one is
not trained again. Leaves out: evaluation.
"""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from infra.canonical import fingerprint
from infra.errors import BalanceError, RecipeError, TrainingError
from infra.models.tokens import context_window, load_tokenizer
from infra.recipe import Training
from infra.recipe.public import public_text
from infra.store import Store
from tasks.training.base_identity import base_identity, loadable_base
from tasks.training.checkpoints import FOLDER as CHECKPOINTS
from tasks.training.checkpoints import last_checkpoint, rewind
from tasks.training.external import ExternalPairs, PairSource, TrainingData, all_drops, read_external_pairs
from tasks.training.gate import Lengths, PairsFile, gate, pair_schema
from tasks.training.launching import OnReference, OnStep, launch
from tasks.training.losses import all_losses, find_loss
from tasks.training.mixing import ShortPairs, mix_summary, read_short_pairs
from tasks.training.outputs import checkpoint_models, write_outputs
from tasks.training.published import read_train_split
from tasks.training.reference import fetch_reference, reference_path, store_reference
from tasks.training.settings import (
    RunConfig,
    check_run_settings,
    epochs_of,
    planned_steps,
    precomputes_reference,
    result_text,
)
from tasks.training.trackers import check_trackers

# Settings that do not change the trained weights, and so not the job's id.
_SETTINGS_WITHOUT_EFFECT = {
    "save_steps",
    "keep_checkpoints",
    "gradient_checkpointing",
    "offload_activations",
    "over_length",
    "report_to",
}
_SETTINGS_WITH_CONTENT = {"mix"}  # the id holds the content of its rows instead


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What to train. `base` is a folder, a hub name or `microworld`; `manifest` is a path in the store, and empty where
    `pairs` says what to train on instead."""

    store: Store
    manifest: str
    settings: Training
    base: str
    base_revision: str
    folder: Path
    seed: int = 0
    trust_remote_code: bool = False
    pairs: PairSource | None = None
    template_arguments: Mapping[str, Any] = field(default_factory=dict)  # of the chat template, as in the requests


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A trained model. `model` is its folder in the store, `name` what it is served as."""

    model: str
    name: str
    revision: str
    kind: str  # "adapter" or "full"
    loss: str
    base: str
    steps: int
    rows: int  # questions trained on, short-context ones included
    longest_row: int  # tokens
    first_loss: float  # mean of the first quarter of the steps
    last_loss: float  # mean of the last quarter
    tensors_changed: int  # of LoRA's B matrices, or of all tensors
    tensors: int
    short_rows: int = 0  # of training.mix
    pairs: int = 0  # of all rows; 0 for a model of an earlier version, where each row is a pair
    source_rows: int = 0  # of others' data: pairs without the short-context ones + dropped
    dropped: dict[str, int] = field(default_factory=dict)  # rows of others' data by reason
    epochs: float = 0.0  # passes over the questions; 0 for a model of an earlier version
    dropped_pairs: int = 0  # longer than training.max_length, and so not trained on
    sharing: str = ""  # what was chosen about reading shared prompts once, and what it was predicted to save

    def to_json(self) -> dict[str, Any]:
        """As a flat JSON object."""
        return asdict(self)


def stored_training(job: TrainingJob) -> TrainingResult | None:
    """The result of a job that was trained before, or None."""
    data = read_data(job)
    return _stored_result(job, _model_path(data, job_id(job, data, read_short_pairs(job.settings.mix))))


def read_data(job: TrainingJob) -> TrainingData:
    """What the job trains on, checked as far as it can be without a model. Raises InputError or StoreError."""
    short = _reads_short_prompts(job)
    if job.pairs is None:
        with_reasoning = job.settings.reasoning == "keep"
        return read_train_split(job.store, job.manifest, with_reasoning=with_reasoning, with_short_prompt=short)
    if short:
        raise RecipeError(
            f"training.loss: {job.settings.loss} compares with the reference over a short prompt, which pairs of "
            "others have not; take the loss dpo"
        )
    return read_external_pairs(job.pairs, grouped=job.settings.loss != "sft")  # SFT reads one pair of a question


def _reads_short_prompts(job: TrainingJob) -> bool:
    return job.settings.loss in all_losses() and all_losses()[job.settings.loss].short_reference


def train(
    job: TrainingJob, *, on_step: OnStep | None = None, on_reference: OnReference | None = None
) -> TrainingResult:
    """Train the job, or return its result when it is finished.

    `on_step` gets {step, total_steps, loss, lr, grad_norm, margin, ...} after each optimiser step, those before
    a resumed checkpoint again; `on_reference` gets two numbers while the reference is computed: the rows that have it,
    and all rows.
    Raises RecipeError or PrerequisiteError for settings that cannot work (here), InputError for a dataset that was
    changed or a mix that cannot be trained on, TrainingError for rows that do not fit, a loss that is not finite or
    does not move, and a subprocess that fails (with the end of its log).
    """
    data = read_data(job)
    short = read_short_pairs(job.settings.mix)
    identity = job_id(job, data, short)
    model = _model_path(data, identity)
    before = _stored_result(job, model)
    if before is not None:
        return before
    _check_settings(job.settings)
    folder = (job.folder / "training" / identity).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        before = _stored_result(job, model)
        if before is not None:
            return before
        config = _prepare(job, data, short, folder)
        try:
            launch(config, log=folder / "train.log", on_step=on_step, on_reference=on_reference)
        finally:  # also after a failure, so that the next run need not compute them again
            store_reference(job.store, config)
        result = _publish(job, data, identity, config)
        remove_work_files(folder)
    return result


def job_id(job: TrainingJob, data: TrainingData, short: ShortPairs | None) -> str:
    """16 hex digits from the data's content, the rows mixed in, the settings, the base model and the seed."""
    identity: dict[str, Any] = {
        **data.identity(),
        "settings": job.settings.model_dump(mode="json", exclude=_SETTINGS_WITHOUT_EFFECT | _SETTINGS_WITH_CONTENT),
        "base": base_identity(job.base),
        "base_revision": job.base_revision,
        "seed": job.seed,
    }
    if job.settings.reasoning == "drop":
        del identity["settings"]["reasoning"]  # as before the key
    if job.template_arguments:
        identity["template_arguments"] = dict(job.template_arguments)
    if short:
        identity["mix"] = short.identity()
    if job.settings.max_steps is not None:
        questions = data.count_questions()
        rows = questions + (short.rows_to_draw(questions) if short else 0)
        if planned_steps(job.settings, rows) < job.settings.max_steps:
            # Before max_steps was a cap, a job with these settings went on to max_steps: another model, another id.
            identity["steps"] = "epochs"
    return fingerprint(identity)[:16]


def _stored_result(job: TrainingJob, model: str) -> TrainingResult | None:
    path = f"{model}/result.json"
    if not job.store.exists(path):
        return None
    result = TrainingResult(**json.loads(job.store.read(path)))
    if result.dropped_pairs and job.settings.over_length == "stop":
        return None  # the gate will stop the job
    if job.settings.keep_checkpoints and not job.store.list(f"{model}/{CHECKPOINTS}"):
        return None  # trained before, without them
    return result


def _model_path(data: TrainingData, identity: str) -> str:
    return f"models/{data.name}/{identity}"


def _check_settings(settings: Training) -> None:
    """Raises RecipeError or PrerequisiteError for settings that would fail later."""
    find_loss(settings.loss)
    check_run_settings(settings)
    check_trackers(settings)
    if settings.pack_tokens and (settings.loss == "sft" or settings.sharing == "off"):
        raise RecipeError(
            "training.pack_tokens: packed questions are kept apart by the layout of shared prompts, which sft and "
            "training.sharing = off do without; set pack_tokens to null"
        )
    if settings.method == "qlora" or settings.processes > 1 or settings.offload_activations:
        from tasks.training.base import check_machine

        check_machine(settings)


def _prepare(job: TrainingJob, data: TrainingData, short: ShortPairs | None, folder: Path) -> RunConfig:
    """Encode the rows, unless they were encoded before, and look up the checkpoint to resume from."""
    lengths = _encoded(job, data, short, folder)
    shutil.rmtree(folder / "output", ignore_errors=True)
    checkpoint = last_checkpoint(folder / "checkpoints")
    config = RunConfig(
        settings=job.settings,
        base=loadable_base(job.base),
        base_name=public_text(job.base),
        trust_remote_code=job.trust_remote_code,
        seed=job.seed,
        lengths=lengths,
        folder=str(folder),
        checkpoint=str(checkpoint) if checkpoint else None,
        mix=mix_summary(short, data.count_questions(), lengths.dropped_short) if short else None,
        reference=_reference_path(job, folder / "pairs.arrow", lengths.rows),
    )
    _check_conservation(data, config)
    rewind(config)
    fetch_reference(job.store, config)
    return config


def _longest_row(job: TrainingJob, data: TrainingData) -> int:
    """Tokens of the longest row that may pass the gate: of others' pairs, those that the base model cannot read are
    dropped, where Longmill's own stop the run."""
    longest = job.settings.max_length
    if isinstance(data, ExternalPairs):
        window = context_window(job.base, job.trust_remote_code)
        longest = min(longest, window or longest)
    return longest


def _check_conservation(data: TrainingData, config: RunConfig) -> None:
    """Raises BalanceError unless every row of others' data is trained on or a counted drop."""
    if not isinstance(data, ExternalPairs):
        return
    pairs = config.lengths.pairs - (config.mix.rows if config.mix else 0)
    dropped = sum(all_drops(data, config.lengths).values())
    if data.source_rows != pairs + dropped:
        raise BalanceError(
            f"{data.source.source} has {data.source_rows} rows, but {pairs} pairs passed and {dropped} rows were "
            "dropped; nothing is trained"
        )


def _encoded(job: TrainingJob, data: TrainingData, short: ShortPairs | None, folder: Path) -> Lengths:
    """The lengths of the rows in the folder's `pairs.arrow`, which is written here unless it was before."""
    lengths_file = folder / "lengths.json"
    if lengths_file.exists():
        lengths = Lengths.from_json(json.loads(lengths_file.read_text(encoding="utf-8")))
        if not lengths.dropped_pairs or job.settings.over_length == "drop":
            return lengths
    data.check()
    tokenizer = load_tokenizer(job.base, job.trust_remote_code)
    with PairsFile(folder / "pairs.arrow", pair_schema(_reads_short_prompts(job))) as pairs:
        through_gate = partial(
            gate,
            tokenizer=tokenizer,
            max_length=_longest_row(job, data),
            add=pairs.add,
            over_length=job.settings.over_length,
            arguments=job.template_arguments,
            short_prompts=_reads_short_prompts(job),
        )
        lengths = through_gate(data.pairs(), unfit="drop" if isinstance(data, ExternalPairs) else "stop")
        if short:
            short_rows = short.draw(data.count_questions(), job.seed)
            lengths = lengths.with_short(through_gate(short_rows))
    lengths_file.write_text(json.dumps(asdict(lengths)), encoding="utf-8")
    return lengths


def _reference_path(job: TrainingJob, pairs: Path, rows: int) -> str | None:
    """The reference's file in the store; None when it is computed in each step, or the loss has none."""
    if not find_loss(job.settings.loss).reference or not precomputes_reference(job.settings, rows):
        return None
    return reference_path(pairs, base_identity(job.base), job.base_revision, job.settings)


def _publish(job: TrainingJob, data: TrainingData, identity: str, config: RunConfig) -> TrainingResult:
    """Write the files beside the weights, copy all to the store, and write result.json, which ends the job."""
    written = write_outputs(config, data, base=job.base, base_revision=job.base_revision)
    result = TrainingResult(
        model=_model_path(data, identity),
        name=f"{data.name}-{identity}",
        revision=identity,
        kind="full" if job.settings.method == "full" else "adapter",
        loss=job.settings.loss,
        base=config.base_name,
        rows=config.lengths.rows,
        pairs=config.lengths.pairs,
        longest_row=config.lengths.total_max,
        short_rows=config.mix.rows if config.mix else 0,
        source_rows=data.source_rows if isinstance(data, ExternalPairs) else 0,
        dropped=all_drops(data, config.lengths),
        epochs=epochs_of(config.settings, config.lengths.rows, written["steps"]),
        dropped_pairs=config.lengths.dropped_pairs,
        **written,
    )
    job.store.upload_folder(config.output, result.model)
    if config.settings.keep_checkpoints:
        _store_checkpoints(job.store, config, result)
    job.store.put_if_absent(f"{result.model}/result.json", result_text(result.to_json()).encode())
    return result


def _store_checkpoints(store: Store, config: RunConfig, result: TrainingResult) -> None:
    """Every checkpoint as a model of its own, beside the trained one."""
    for step, folder in checkpoint_models(config):
        checkpoint = replace(
            result,
            model=f"{result.model}/{CHECKPOINTS}/{step}",
            name=f"{result.name}-step-{step}",
            revision=f"{result.revision}-{step}",
            steps=step,
        )
        (folder / "result.json").write_text(result_text(checkpoint.to_json()), encoding="utf-8")
        store.upload_folder(folder, checkpoint.model)


def remove_work_files(folder: Path) -> None:
    """Remove the files that only a resumed run needs; log and progress stay."""
    for name in ("checkpoints", "output", "output-checkpoints", "cache"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in [*folder.glob("*.arrow"), folder / "lengths.json", folder / "reference.jsonl"]:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One training of a job at a time on this machine; the lock ends with its process."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainingError(
                f"{folder}: another process trains this job now; wait for it, or stop it and run again to resume"
            ) from error
        yield

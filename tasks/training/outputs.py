"""The files beside the trained weights: card, metrics, plot, the job's settings; and merging an adapter.

Nothing in these files depends on when or where the run took place. Weights are safetensors; pickle files are
removed. Leaves out: uploading to a hub.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.errors import TrainingError
from infra.models.tokens import resolve_model
from infra.store import table_bytes
from tasks.training.card import model_card
from tasks.training.checkpoints import complete_checkpoints, copy_weights, read_progress
from tasks.training.external import ExternalPairs, TrainingData, all_drops
from tasks.training.settings import RunConfig, quarter_means

_ADAPTER_FILES = {"adapter_model.safetensors", "adapter_config.json"}
Steps = Sequence[dict[str, Any]]


def write_outputs(config: RunConfig, data: TrainingData, *, base: str, base_revision: str) -> dict[str, Any]:
    """Complete the output folder; returns {steps, first_loss, last_loss, tensors_changed, tensors, sharing}.

    Raises TrainingError when the subprocess left no weights.
    """
    summary_file = config.output / "summary.json"
    if not summary_file.exists():
        raise TrainingError(f"{config.output}: training ended without its summary; see train.log beside it")
    summary = json.loads(summary_file.read_text(encoding="utf-8"))
    _remove_other_files(config)
    steps = read_progress(config.progress)
    first, last = quarter_means([step["loss"] for step in steps])
    results = {
        "steps": summary["steps"],
        "first_loss": first,
        "last_loss": last,
        "tensors_changed": summary["changed"],
        "tensors": summary["tensors"],
        "sharing": summary["sharing"],
    }
    (config.output / "metrics.parquet").write_bytes(table_bytes(metrics_table(steps)))
    (config.output / "training.png").write_bytes(training_plot(steps, config.settings.loss))
    short_rows, dropped_short = config.mix.rows if config.mix else 0, config.lengths.dropped_short
    job = {
        "manifest": None if isinstance(data, ExternalPairs) else data.sha256,
        "dataset": data.name,
        "base": base,
        "base_revision": base_revision,
        "trust_remote_code": config.trust_remote_code,
        "seed": config.seed,
        "settings": config.settings.model_dump(mode="json"),
        "rows": {"long": config.lengths.pairs - short_rows, "short": short_rows},
        "dropped": {"long": config.lengths.dropped_pairs - dropped_short, "short": dropped_short},
        "mix": asdict(config.mix) if config.mix else None,
        "reference": config.reference,
    }
    if isinstance(data, ExternalPairs):
        job["data"] = data.summary() | {"drops": all_drops(data, config.lengths)}
    (config.output / "job.json").write_text(json.dumps(job, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    card = model_card(config, data, base_revision, results, steps)
    (config.output / "README.md").write_text(card, encoding="utf-8")
    return results


def checkpoint_models(config: RunConfig) -> Iterator[tuple[int, Path]]:
    """(step, folder with the weights and job.json) of every complete checkpoint, for `write_outputs` before it."""
    adapter = config.settings.method != "full"
    for step, checkpoint in complete_checkpoints(config.checkpoints):
        folder = Path(config.folder) / "output-checkpoints" / str(step)
        shutil.rmtree(folder, ignore_errors=True)
        copy_weights(checkpoint, folder, adapter)
        if adapter:
            _write_adapter_config(config, folder / "adapter_config.json")
        shutil.copy(config.output / "job.json", folder / "job.json")
        yield step, folder


def metrics_table(steps: Steps) -> pa.Table:
    """One row per optimiser step: step and total_steps, then every number that was logged, by name."""
    counts = ("step", "total_steps")
    columns: dict[str, Any] = {}
    for name in counts:
        columns[name] = pa.array([step[name] for step in steps], pa.int64())
    for name in sorted(_logged_names(steps) - set(counts)):
        columns[name] = pa.array([step.get(name) for step in steps], pa.float64())
    return pa.table(columns)


def training_plot(steps: Steps, loss: str) -> bytes:
    """Loss, reward margin where there is one, and learning rate by step, as a PNG on an opaque white ground."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    logged = _logged_names(steps)
    panels: list[tuple[str, str]] = []
    for name, label in (("loss", f"{loss} loss"), ("margin", "reward margin"), ("lr", "learning rate")):
        if name in logged:
            panels.append((name, label))
    figure = Figure(figsize=(7, 2.2 * len(panels)), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, label) in zip(axes, panels, strict=True):
        numbers: list[int] = []
        values: list[float] = []
        for step in steps:
            if name in step:
                numbers.append(step["step"])
                values.append(step[name])
        axis.plot(numbers, values, color="#1f5fa8", linewidth=1.4, marker="." if len(values) < 60 else None)
        axis.set_ylabel(label)
        axis.set_facecolor("white")
        axis.grid(color="#dddddd", linewidth=0.6)
    axes[-1].set_xlabel("optimiser step")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "longmill"})
    return buffer.getvalue()


def _logged_names(steps: Steps) -> set[str]:
    names: set[str] = set()
    for step in steps:
        names |= step.keys()
    return names


def merge_adapter(folder: Path, target: Path) -> Path:
    """The base model with the adapter of `folder` merged in, as a model folder; made once.

    Raises TrainingError when `folder` is no adapter that Longmill trained.
    """
    if target.exists():
        return target
    try:
        job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(
            f"{folder}: there is no job.json; give the folder of a model that was trained here"
        ) from error
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from infra.models.tokens import load_tokenizer

    trust = job["trust_remote_code"]
    dtype = getattr(torch, job["settings"]["dtype"])
    base = AutoModelForCausalLM.from_pretrained(resolve_model(job["base"]), dtype=dtype, trust_remote_code=trust)
    merged = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    merged.save_pretrained(part)
    load_tokenizer(job["base"], trust).save_pretrained(part)
    part.rename(target)
    return target


def _remove_other_files(config: RunConfig) -> None:
    """Only weights and a full model's tokenizer stay; the adapter's configuration is written in a fixed order."""
    adapter = config.settings.method != "full"
    for path in config.output.iterdir():
        if path.name == "summary.json" or path.suffix == ".bin" or (adapter and path.name not in _ADAPTER_FILES):
            path.unlink()
    if adapter:
        _write_adapter_config(config, config.output / "adapter_config.json")


def _write_adapter_config(config: RunConfig, path: Path) -> None:
    """The adapter's configuration in a fixed order, without a folder of this machine."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw["base_model_name_or_path"] = config.base_name
    raw["target_modules"] = sorted(raw["target_modules"])  # PEFT writes a set in no order
    path.unlink()  # it may be a link to the checkpoint's own
    path.write_text(json.dumps(raw, indent=2, sort_keys=True) + "\n", encoding="utf-8")

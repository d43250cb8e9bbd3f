"""The subprocess: `accelerate launch -m tasks.training.run CONFIG.json` trains and writes weights and a summary.

It reads the configuration and the encoded rows, resumes from the checkpoint that the configuration names, and
leaves `output/` with the weights and `summary.json`. A deliberate error is left in `error.txt` too. Leaves
out: cards, plots and the store, which are the parent's.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infra.errors import LongmillError, TrainingError
from tasks.training.settings import RunConfig, RunFiles, steps_argument, warmup_steps
from tasks.training.trackers import tracker_arguments

REMOVED_FILES = ("training_args.bin", "README.md")  # a pickle, and a card without numbers


def main(path: str) -> int:
    """Run a configuration file; the exit status is 0 when the output is complete."""
    config = RunConfig.load(Path(path).read_text(encoding="utf-8"))
    return exit_status(config, lambda: run(config))


def exit_status(config: RunFiles, work: Callable[[], None]) -> int:
    """Do the work of a subprocess; a deliberate error is left where the parent reads it. Returns the exit status."""
    try:
        work()
    except LongmillError as error:
        config.error.write_text(str(error), encoding="utf-8")
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(config: RunConfig) -> None:
    """Train. Raises TrainingError for a bad loss, a loss that does not move, or rows that were lost."""
    from datasets import Dataset

    from infra.models.tokens import load_tokenizer
    from tasks.training.base import adapter_config, check_machine, load_base
    from tasks.training.gate import read_trees
    from tasks.training.losses import LossSetup, find_loss
    from tasks.training.shared_prefix.choice import plan_sharing
    from tasks.training.watch import ProgressCallback, Snapshot

    check_machine(config.settings)
    tokenizer = load_tokenizer(config.base, config.trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model, rows = load_base(config), Dataset.from_file(str(config.pairs))
    sharing, plan = plan_sharing(config.settings, model, read_trees(rows), config.lengths.total_max)
    print(plan.sentence(), flush=True)
    arguments = trainer_arguments(config)
    if config.settings.keep_checkpoints:
        arguments["save_total_limit"] = None
    setup = LossSetup(
        model=model,
        adapter=adapter_config(config.settings),
        tokenizer=tokenizer,
        pairs=rows,
        max_length=config.lengths.total_max,
        settings=config.settings,
        arguments=arguments,
        callbacks=(ProgressCallback(config.progress, config.settings.keep_checkpoints),),
        reference=config.reference_rows if config.reference else None,
        sharing=sharing,
    )
    trainer = find_loss(config.settings.loss).make_trainer(setup)
    check_processes(config, trainer.args.world_size)
    check_rows(config, trainer.train_dataset)
    before = Snapshot(trainer.model)
    trainer.train(resume_from_checkpoint=config.checkpoint)
    _save(config, trainer, before, plan)


def check_rows(config: RunConfig, dataset: Any) -> None:
    """Raises TrainingError unless the trainer holds every question that the gate passed, with as many pairs and
    tokens."""
    import pyarrow.compute as pc

    from tasks.training.gate import read_trees

    lengths = read_trees(dataset)
    pairs = pc.sum(pc.list_value_length(dataset.data.column("pairs"))).as_py()
    tokens = sum(tree.prompt + sum(tree.answers) for tree in lengths)
    trainer_holds = _amounts(len(lengths), pairs, tokens)
    gate_passed = _amounts(config.lengths.rows, config.lengths.pairs, config.lengths.tokens)
    if trainer_holds != gate_passed:
        raise TrainingError(
            f"the trainer holds {trainer_holds}, the gate passed {gate_passed}; the loss {config.settings.loss!r} cuts "
            "or drops rows, which it must not"
        )


def _amounts(questions: int, pairs: int, tokens: int) -> str:
    return f"{questions} questions, {pairs} pairs and {tokens} tokens"


def check_processes(config: RunFiles, started: int) -> None:
    """Raises TrainingError unless accelerate has started as many processes as the settings say."""
    section = config.settings.section
    if started != config.settings.processes:
        raise TrainingError(
            f"accelerate started {started} processes, {section}.processes is {config.settings.processes}; make them "
            f"the same, so that a step has {section}.batch_size questions"
        )


def trainer_arguments(config: RunFiles) -> dict[str, Any]:
    """transformers' TrainingArguments that every loss shares."""
    import torch

    settings = config.settings
    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(config.checkpoints),
        "seed": config.seed % 2**32,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": warmup_steps(settings, config.rows),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.clip,
        "num_train_epochs": settings.epochs,
        "max_steps": steps_argument(settings, config.rows),
        "per_device_train_batch_size": settings.batch_size,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "bf16": settings.dtype == "bfloat16",
        "use_cpu": not gpu,
        "dataloader_pin_memory": gpu,
        "remove_unused_columns": False,
        "logging_steps": 1,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # would show 0 where the loss is NaN
        "save_strategy": "steps",
        "save_steps": settings.save_steps,
        "save_total_limit": 2,
        **tracker_arguments(config),
        "disable_tqdm": True,
    }


def _save(config: RunConfig, trainer: Any, before: Any, plan: Any) -> None:
    """Write weights and summary; the summary last."""
    import torch

    from tasks.training.checkpoints import read_progress
    from tasks.training.watch import check_model_changed

    settings = config.settings
    changed = before.compare(trainer.model)
    if settings.method == "full" and settings.dtype == "bfloat16":
        trainer.model.to(torch.bfloat16)
    trainer.save_model(str(config.output))
    if not trainer.is_world_process_zero():
        return
    check_model_changed(read_progress(config.progress), changed)
    for name in REMOVED_FILES:
        (config.output / name).unlink(missing_ok=True)
    summary = {"steps": trainer.state.global_step, **asdict(changed), "sharing": plan.sentence()}
    (config.output / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

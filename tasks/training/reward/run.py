"""The subprocess: `accelerate launch -m tasks.training.reward.run CONFIG.json` trains a reward model, then scores.

It resumes from the checkpoint that the configuration names, and leaves `output/` with a sequence classifier that
transformers loads as any other (an adapter is merged in), and `summary.json`, which is written last. `scored.jsonl` has
the scores that this very classifier, loaded again, gives the held-out answers. Leaves out: FSDP, whose weights lie in
pieces, and the store, which is the parent's.
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from infra.errors import TrainingError
from tasks.training.reward.settings import RewardRun
from tasks.training.run import check_processes, exit_status, trainer_arguments

_START_QUESTIONS = 16  # that are looked at to give the heads their first weights, and the padding token


def main(path: str) -> int:
    """Run a configuration file; the exit status is 0 when the output is complete."""
    config = RewardRun.load(Path(path).read_text(encoding="utf-8"))
    return exit_status(config, lambda: run(config))


def run(config: RewardRun) -> None:
    """Train and score. Raises TrainingError for a bad loss, one that does not move, or a model that cannot be made."""
    from datasets import Dataset
    from transformers import TrainingArguments

    from infra.models.tokens import load_tokenizer
    from tasks.training.checkpoints import read_progress
    from tasks.training.reward.passes import JudgedCollator
    from tasks.training.reward.trainer import StepRewardTrainer, make_loss
    from tasks.training.watch import ProgressCallback, Snapshot, check_model_changed

    settings = config.settings
    tokenizer = load_tokenizer(config.base, config.trust_remote_code)
    rows = Dataset.from_file(str(config.train_rows))
    if len(rows) != config.questions:
        raise TrainingError(f"the trainer holds {len(rows)} questions, {config.questions} were encoded")
    model = load_classifier(config)
    pad = set_padding(model, tokenizer, rows)
    obstacle = choose_sharing(model, config)
    print(sharing_sentence(obstacle), flush=True)
    if config.checkpoint is None and settings.objective == "regression":
        start_heads(model, rows, [head.mean for head in config.heads])
    arguments = TrainingArguments(
        **trainer_arguments(config) | {"per_device_train_batch_size": settings.batch_size, "label_names": []}
    )
    trainer = StepRewardTrainer(
        loss=make_loss(settings, config.heads),
        shared=obstacle is None,
        pad_token_id=pad,
        model=with_adapter(model, settings, arguments.gradient_checkpointing),
        args=arguments,
        train_dataset=rows,
        data_collator=JudgedCollator(
            pad or 0,
            settings.device_batch_size,
            settings.objective == "pairwise",
            len(config.heads),
            arguments.process_index,
            arguments.world_size,
        ),
        callbacks=[ProgressCallback(config.progress)],
    )
    check_processes(config, trainer.args.world_size)
    before = Snapshot(trainer.model)
    trainer.train(resume_from_checkpoint=config.checkpoint)
    changed = before.compare(trainer.model)
    if not trainer.is_world_process_zero():
        return
    check_model_changed(read_progress(config.progress), changed)
    save_classifier(trainer.accelerator.unwrap_model(trainer.model), tokenizer, config)
    score_held_out(tokenizer, config)
    summary = {"steps": trainer.state.global_step, **asdict(changed), "sharing": sharing_sentence(obstacle)}
    (config.output / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def load_classifier(config: RewardRun) -> Any:
    """The base as a sequence classifier with a new head. Raises TrainingError when it cannot be one."""
    from transformers import AutoModelForSequenceClassification

    settings = config.settings
    low = settings.dtype == "bfloat16" and settings.method != "full"
    names = [head.name for head in config.heads]
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            config.base,
            dtype=torch.bfloat16 if low else torch.float32,
            trust_remote_code=config.trust_remote_code,
            id2label=dict(enumerate(names)),
            label2id={name: place for place, name in enumerate(names)},
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"the base model {config.base_name} cannot be loaded as a sequence classifier ({error}); set "
            "reward_training.base to a model folder or hub name of a causal language model"
        ) from error
    if not isinstance(getattr(model, "score", None), torch.nn.Linear):
        raise TrainingError(
            f"the base model {config.base_name} has no linear head called `score` as a {type(model).__name__}; set "
            "reward_training.base to a causal language model"
        )
    model.config.problem_type = "regression"  # the logits are the scores as they are, for every server
    model.score.float()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def set_padding(model: Any, tokenizer: Any, rows: Any) -> int | None:
    """Choose the padding token, which no answer may end with: transformers takes what stands before it for the end.

    None where the tokenizer has none; then the model takes rows of any batch of one.
    """
    ends: set[int] = set()
    for row in _rows(rows.select(range(min(len(rows), _START_QUESTIONS)))):
        ends.update(answer[-1] for answer in row["answers"])
    pad = None
    for token in (tokenizer.pad_token_id, tokenizer.unk_token_id):
        if pad is None and token is not None and token not in ends:
            pad = int(token)
    model.config.get_text_config().pad_token_id = pad
    if pad is not None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    return pad


def choose_sharing(model: Any, config: RewardRun) -> str | None:
    """Let the model read prompts once, unless something is in the way: returns what. Raises TrainingError with `on`."""
    from tasks.training.shared_prefix.classifier import classifier_obstacle, passes_trial, share_classifier

    mode = config.settings.sharing
    if mode == "off":
        return "reward_training.sharing is off"
    obstacle = classifier_obstacle(model, config.longest)
    if obstacle is None:
        share_classifier(model)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=model.dtype == torch.bfloat16):
            if not passes_trial(model):
                obstacle = f"{type(model).__name__} gives other scores when the prompt is read once"
    if obstacle and mode == "on":
        raise TrainingError(f"the prompt cannot be read once: {obstacle}; set reward_training.sharing to auto")
    return obstacle


def sharing_sentence(obstacle: str | None) -> str:
    """What was chosen about reading prompts once."""
    return f"the prompt is read once per answer: {obstacle}" if obstacle else "the prompt is read once for all answers"


def with_adapter(model: Any, settings: Any, checkpointing: bool) -> Any:
    """The model with LoRA on its linear layers and a trained head, or as it is where all weights are trained."""
    if settings.method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    adapter = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        modules_to_save=["score"],
        bias="none",
        task_type="SEQ_CLS",
    )
    adapted = get_peft_model(model, adapter)
    if checkpointing:
        adapted.enable_input_require_grads()
    return adapted


def start_heads(model: Any, rows: Any, means: list[float]) -> None:
    """Give each head weights with which it answers about the mean of its scores, so that training begins there."""
    with torch.no_grad():
        total = torch.zeros(model.score.in_features, dtype=torch.float32)
        count = min(len(rows), _START_QUESTIONS)
        for place in range(count):
            row = rows[place]
            ids = torch.tensor([row["prompt_ids"] + row["answers"][0]], device=model.device)
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            total += hidden[0, -1].float().cpu()
        direction = total / count
        for place, mean in enumerate(means):
            model.score.weight[place] = mean * direction / (direction @ direction)


def save_classifier(model: Any, tokenizer: Any, config: RewardRun) -> None:
    """Write the classifier, its adapter merged, and the tokenizer with its chat template."""
    from peft import PeftModel

    whole = model.merge_and_unload() if isinstance(model, PeftModel) else model
    whole.to(getattr(torch, config.settings.dtype)).save_pretrained(config.output)
    tokenizer.save_pretrained(config.output)


def score_held_out(tokenizer: Any, config: RewardRun) -> None:
    """Load what was written and score the held-out answers, a line a question: {"example_id", "heads" by answer}."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification

    from tasks.judging.classifier import Classifier
    from tasks.judging.classifier_input import TokenRow
    from tasks.training.shared_prefix.classifier import can_share

    model = AutoModelForSequenceClassification.from_pretrained(
        config.output, dtype=getattr(torch, config.settings.dtype), trust_remote_code=config.trust_remote_code
    )
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    shares = config.settings.sharing != "off" and can_share(model)
    classifier = Classifier(model, tokenizer, shares=shares)
    with config.scored.open("w", encoding="utf-8") as lines:
        for row in _rows(Dataset.from_file(str(config.test_rows))):
            conversations = [TokenRow((*row["prompt_ids"], *answer)) for answer in row["answers"]]
            heads = classifier.logits_of_question(conversations, config.settings.device_batch_size)
            lines.write(json.dumps({"example_id": row["example_id"], "heads": heads}) + "\n")
            lines.flush()


def _rows(dataset: Any) -> Iterable[Any]:
    for place in range(len(dataset)):
        yield dataset[place]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""One case of the training benchmark: steps of one loss on one random model and question.

`python -m flows.bench.training_case JSON` takes a TrainingCase and prints what its ways took, as JSON in the last line.
The ways take turns; each has its own trainer and model. "shared" reads a prompt once, "stock" once per answer: TRL's
padded pairs, of ORPO with its logits of every token. The model is made in place on its device with random weights,
and never written. Peak memory is what a step adds: on a GPU the allocator's, on a CPU the process's resident memory,
which is right for a process's first step only. Processor seconds are what the process itself computed, whatever
else the machine was doing. Leaves out: the optimiser's step, and loading data.
"""

import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from infra.recipe import Training

WAYS = ("stock", "shared")
# Of the processes that measure.
ENVIRONMENT = {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
MODELS: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
    },
    "small": {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 8192,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
}


@dataclass(frozen=True, slots=True)
class TrainingCase:
    """A question of so many tokens, and its answers; of each two neighbours the first is chosen over the second."""

    model: str  # of MODELS
    prompt: int
    answers: tuple[int, ...]
    loss: str = "dpo"
    method: str = "lora"  # or "full", whose DPO needs a model in a folder as its reference
    vocabulary: int | None = None  # words, in place of the model's
    ways: tuple[str, ...] = WAYS
    steps: int = 3  # that are counted; 0 counts the first, which is left out otherwise

    @property
    def name(self) -> str:
        """As figures are named, PROMPT/ANSWER in tokens and what is not plain."""
        more = [f"{len(self.answers)} answers"] if len(self.answers) > 2 else []
        more += [self.loss] if self.loss != "dpo" else []
        more += [self.method] if self.method != "lora" else []
        more += [f"{self.vocabulary} words"] if self.vocabulary else []
        return " ".join([f"{self.model} {self.prompt}/{self.answers[0]}", *more])

    @property
    def pairs(self) -> list[list[int]]:
        """Chosen and rejected of each pair; no answer is in two, so separate pairs read each answer once."""
        return [[first, first + 1] for first in range(0, len(self.answers), 2)]

    @staticmethod
    def load(text: str) -> "TrainingCase":
        """From JSON text."""
        raw = json.loads(text)
        return TrainingCase(**{**raw, "answers": tuple(raw["answers"]), "ways": tuple(raw["ways"])})

    def dump(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self))


def answer_lengths(longest: int, count: int = 2) -> tuple[int, ...]:
    """Lengths of answers, every second one of them 7/8 of the longest."""
    lengths = []
    for number in range(count):
        lengths.append(longest - (longest // 8) * (number % 2))
    return tuple(lengths)


@dataclass
class StepCost:
    """What the steps of one way took."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    gigabytes: list[float] = field(default_factory=list)  # beyond what was in use before the step
    total_gigabytes: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def run(case: TrainingCase) -> dict[str, Any]:
    """{way: {step_s, processor_s, tokens_per_s, peak_gb, total_gb, losses}, predicted_speedup, shape}."""
    with tempfile.TemporaryDirectory() as folder:
        trainers, costs = {}, {}
        rows = _rows(case)
        for way in case.ways:
            trainers[way] = _trainer(Path(folder), case, shared=way == "shared")
            costs[way] = StepCost()
        for step in range(case.steps + 1):
            for way, trainer in trainers.items():
                _step(trainer, rows, case, way, costs[way] if step or not case.steps else StepCost())
    figures = _prediction(case, next(iter(trainers.values())))
    for way, step_cost in costs.items():
        figures[way] = _figures(step_cost, case)
    return figures


def run_way(case: TrainingCase, seconds: float) -> dict[str, Any]:
    """The only way of a case in about so many seconds, as `run` has it: one step at least, case.steps + 1 at most. A
    step on a short question warms the kernels up, and the first full step is not counted where there are more."""
    (way,) = case.ways
    ends = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(Path(folder), case, shared=way == "shared")
        short = replace(case, prompt=min(case.prompt, 256), answers=tuple(min(64, answer) for answer in case.answers))
        _step(trainer, _rows(short), short, way, StepCost())
        rows, cost, first = _rows(case), StepCost(), StepCost()
        _step(trainer, rows, case, way, first)
        while len(cost.seconds) < case.steps and time.monotonic() + first.seconds[0] < ends:
            _step(trainer, rows, case, way, cost)
    return {way: _figures(cost if cost.seconds else first, case), **_prediction(case, trainer)}


def _prediction(case: TrainingCase, trainer: Any) -> dict[str, Any]:
    """{predicted_speedup, shape}, where shape is what predictions for the model are computed from."""
    import torch

    from tasks.training.shared_prefix.cost import ModelCost, predicted_speedup
    from tasks.training.shared_prefix.layout import Tree
    from tasks.training.trl_seams import without_adapter

    cost = ModelCost.of(without_adapter(trainer.model), head_everywhere=not torch.cuda.is_available())
    speedup = predicted_speedup([Tree(case.prompt, case.answers)], cost)
    return {"predicted_speedup": round(speedup, 2), "shape": asdict(cost)}


def _figures(cost: StepCost, case: TrainingCase) -> dict[str, Any]:
    seconds = statistics.median(cost.seconds)
    tokens = len(case.answers) * case.prompt + sum(case.answers)  # a prompt for each answer, for both ways
    processor = {"processor_s": round(statistics.median(cost.processor), 4)} if cost.processor else {}
    return {
        "step_s": round(seconds, 4),
        **processor,
        "tokens_per_s": round(tokens / seconds),
        "peak_gb": round(max(cost.gigabytes), 3),
        "total_gb": round(max(cost.total_gigabytes), 3),
        "steps": len(cost.seconds),
        "losses": cost.losses,
    }


def _step(trainer: Any, rows: Any, case: TrainingCase, way: str, cost: StepCost) -> None:
    """Loss and gradients of the question in `rows`, the reference's passes included."""
    import torch

    gpu = torch.cuda.is_available()
    passes = trainer.data_collator(list(rows))["passes"]
    batches: list[dict[str, Any]] = []
    for batch in passes:
        batches.append({name: tensor.to(trainer.args.device) for name, tensor in batch.items()})
    trainer.model.zero_grad()
    before, clock, processor = _start_peak(gpu), time.monotonic(), time.process_time()
    total = 0.0
    for batch in batches:
        with trainer.accelerator.autocast():
            if case.loss == "orpo" and way == "stock":
                loss = _trl_orpo(trainer, batch)
            else:
                loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        total += float(loss.detach())
    if gpu:
        torch.cuda.synchronize()
    cost.seconds.append(time.monotonic() - clock)
    if not gpu:
        cost.processor.append(time.process_time() - processor)
    peak = _peak(gpu)
    cost.gigabytes.append((peak - before) / 1e9)
    cost.total_gigabytes.append(peak / 1e9)
    cost.losses.append(total)


def _trl_orpo(trainer: Any, batch: dict[str, Any]) -> Any:
    """TRL's own loss of a pass of one pair, logits of every token and all: what Longmill's ORPO does without."""
    from trl.experimental.orpo import ORPOTrainer

    sides: dict[str, Any] = {}
    for side, row in zip(("chosen", "rejected"), batch["pairs"][0].tolist(), strict=True):
        length = int(batch["attention_mask"][row].sum())
        ids, answer = batch["input_ids"][row : row + 1, :length], batch["completion_mask"][row : row + 1, :length]
        sides |= {
            f"{side}_input_ids": ids,
            f"{side}_attention_mask": batch["attention_mask"][row : row + 1, :length],
            f"{side}_labels": ids.masked_fill(answer == 0, -100),
        }
    return ORPOTrainer.get_batch_loss_metrics(trainer, trainer.model, sides)[0] * batch["weights"].sum().float()


def _start_peak(gpu: bool) -> int:
    """Forget the peak so far; the bytes in use now."""
    import torch

    if gpu:
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux's way to forget VmHWM
    return _peak(gpu)


def _peak(gpu: bool) -> int:
    """The largest number of bytes in use since `_start_peak`."""
    import torch

    if gpu:
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = status.partition("VmHWM:")[2].split()[0]
    return int(kilobytes) * 1024


def _rows(case: TrainingCase) -> Any:
    """The encoded question with random words."""
    import random

    from datasets import Dataset

    draw = random.Random(0)
    words_end = min(8000, _shape(case)["vocab_size"])

    def words(count: int) -> list[int]:
        return [draw.randrange(3, words_end) for _ in range(count)]

    prompt = words(case.prompt)
    answers = list(map(words, case.answers))
    return Dataset.from_list([{"prompt_ids": prompt, "answers": answers, "pairs": case.pairs}])


def _shape(case: TrainingCase) -> dict[str, int]:
    return MODELS[case.model] | ({"vocab_size": case.vocabulary} if case.vocabulary else {})


def _model(case: TrainingCase, settings: Training) -> Any:
    """A Llama with random weights, made on its device in the number format that training loads it in."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tasks.training.base import weights_dtype

    longest = case.prompt + max(case.answers)
    before = torch.get_default_dtype()
    torch.set_default_dtype(weights_dtype(settings))
    torch.manual_seed(0)
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            return LlamaForCausalLM(LlamaConfig(**_shape(case), max_position_embeddings=longest))
    finally:
        torch.set_default_dtype(before)


def _trainer(folder: Path, case: TrainingCase, shared: bool) -> Any:
    """The trainer that a recipe makes, with an adapter away from its start."""
    import torch

    from infra.models.tokens import load_tokenizer
    from tasks.training.base import adapter_config
    from tasks.training.gate import Lengths
    from tasks.training.losses import LossSetup, find_loss
    from tasks.training.run import trainer_arguments
    from tasks.training.settings import RunConfig
    from tasks.training.shared_prefix.cost import ModelCost, SharingRule

    gpu = torch.cuda.is_available()
    settings = Training(
        loss=case.loss,
        nll_over="all",  # TRL's, so that both ways have one loss
        method=case.method,
        dtype="bfloat16" if gpu else "float32",
        lora_rank=128 if case.model in ("1b", "8b") else 16,
        lora_dropout=0.0,
        batch_size=1,
    )
    longest = case.prompt + max(case.answers)
    lengths = Lengths(
        1, case.prompt, max(case.answers), longest, case.prompt + sum(case.answers), 0, (), len(case.pairs)
    )
    config = RunConfig(settings, "random", "random", False, 0, lengths, str(folder), None)
    setup = LossSetup(
        model=_model(case, settings),
        adapter=adapter_config(settings),
        tokenizer=load_tokenizer("microworld"),
        pairs=_rows(case),
        max_length=longest,
        settings=settings,
        arguments=trainer_arguments(config),
        callbacks=(),
        sharing=SharingRule(ModelCost(1, 1, 1), always=True) if shared else None,
    )
    trainer = find_loss(case.loss).make_trainer(setup)
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if ".lora_B." in name:
                weight.normal_(std=0.02, generator=torch.Generator(weight.device).manual_seed(len(name)))
    trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    trainer.model.train()
    return trainer


def main() -> None:
    """Run the case that is given as JSON."""
    print(json.dumps(run(TrainingCase.load(sys.argv[1]))))


if __name__ == "__main__":
    main()

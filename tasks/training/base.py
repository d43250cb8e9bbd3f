"""The model that is trained: its weights, their number format, and the adapter on top.

With LoRA the base stays in `dtype` and the adapter is float32; with full training the weights are float32
under bfloat16 autocast, because updates of this size vanish in bfloat16, and are written in `dtype`. Every
dropout of the base is switched off, the adapter's is kept. Leaves out: models that are not causal language
models.
"""

import importlib.util
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from infra.errors import PrerequisiteError, TrainingError
from infra.recipe import Training
from tasks.training.settings import RunConfig


def load_base(config: RunConfig) -> Any:
    """The base model. Raises TrainingError when it cannot be loaded or its context window is too small."""
    settings = config.settings
    options: dict[str, Any] = {"trust_remote_code": config.trust_remote_code, "dtype": weights_dtype(settings)}
    if settings.method == "qlora":
        options |= _four_bit_options()
    try:
        model = AutoModelForCausalLM.from_pretrained(config.base, **options)
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"the base model {config.base_name} cannot be loaded ({error}); set training.base to a model folder or hub "
            "name, and policy.trust_remote_code if it brings code that you trust"
        ) from error
    window = getattr(model.config, "max_position_embeddings", None)
    if window is not None and config.lengths.total_max > window:
        raise TrainingError(
            f"the longest row has {config.lengths.total_max} tokens, the base model {config.base_name} reads {window}; "
            "build with a smaller contexts.max_tokens, or train a model with a longer context"
        )
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def adapter_config(settings: Training) -> Any | None:
    """LoRA on all linear layers, or None when all weights are trained."""
    if settings.method == "full":
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        bias="none",
        task_type="CAUSAL_LM",
    )


def check_machine(settings: Training) -> None:
    """Raises PrerequisiteError when the settings need GPUs or a package that this machine lacks."""
    if settings.processes > max(1, torch.cuda.device_count()) and settings.accelerate_config is None:
        raise PrerequisiteError(
            f"training.processes = {settings.processes} needs as many GPUs, and there are {torch.cuda.device_count()} "
            "here; set it to 1, or give training.accelerate_config for more machines"
        )
    if settings.offload_activations and not torch.cuda.is_available():
        raise PrerequisiteError(
            "training.offload_activations moves activations from a GPU to main memory, and there is no CUDA GPU here; "
            "set it to false"
        )
    if settings.method != "qlora":
        return
    if not torch.cuda.is_available():
        raise PrerequisiteError(
            "training.method = qlora needs a CUDA GPU, and there is none here; use lora, or train on a GPU machine"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise PrerequisiteError("training.method = qlora needs bitsandbytes: pip install bitsandbytes")


def weights_dtype(settings: Training) -> torch.dtype:
    """The number format that the base model's weights have while it is trained."""
    return torch.bfloat16 if settings.dtype == "bfloat16" and settings.method != "full" else torch.float32


def _four_bit_options() -> dict[str, Any]:
    """NF4 with double quantisation, on the GPU of this process."""
    from accelerate import PartialState
    from transformers import BitsAndBytesConfig

    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": quantised, "device_map": {"": PartialState().process_index}}

"""The settings of training: how a model learns from the published pairs, and what is mixed into them.

A section of a recipe (recipe.py). Nothing here changes the bytes of a dataset.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from infra.recipe.models import Fraction, Positive, RecipeSection


class Mix(RecipeSection):
    """Short-context preference pairs that are trained on beside the dataset's own, so that short abilities stay."""

    source: str = Field(
        description="rows with prompt, chosen and rejected, as texts or as chat messages: JSONL or Parquet file, "
        "`datasets` folder or hub name; a path or any fsspec URL"
    )
    subset: str | None = Field(None, description="configuration of a hub dataset")
    split: str = Field("train", description="split of a `datasets` folder or hub dataset")
    ratio: Annotated[float, Field(gt=0)] = Field(
        1.0, description="short rows for each of the dataset's questions; drawn anew when there are too few"
    )


class TrainingRun(RecipeSection):
    """How a model is trained, whatever it learns: what the policy's and the reward model's training share."""

    section: ClassVar[str]  # of the recipe, which messages name

    base: str | None = Field(None, description="model folder or hub name; without it, the policy's model_path")
    lora_rank: Positive = Field(128, description="rank of the adapter")
    lora_alpha: Positive = Field(128, description="alpha of the adapter")
    lora_dropout: Fraction = Field(0.05, description="dropout of the adapter")
    learning_rate: Annotated[float, Field(gt=0)] = Field(5e-5, description="peak learning rate")
    schedule: str = Field("cosine", description="learning-rate schedule, by its transformers name")
    warmup: Fraction = Field(0.05, description="share of the steps that warm up")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.1, description="weight decay")
    clip: Annotated[float, Field(gt=0)] = Field(1.0, description="largest gradient norm")
    epochs: Annotated[float, Field(gt=0)] = Field(1.0, description="passes over the questions")
    max_steps: Positive | None = Field(
        None, description="most optimiser steps: a run stops there when `epochs` would give more, and never takes more"
    )
    batch_size: Positive = Field(
        8, description="questions per optimiser step, over all devices; each weighs the same, however many pairs it has"
    )
    device_batch_size: Positive = Field(
        1, description="questions per device and forward pass; pairs where the prompt is read once per answer"
    )
    dtype: Literal["bfloat16", "float32", "auto"] = Field(
        "bfloat16",
        description="number format of the base weights; auto: bfloat16, or float32 on a CPU that emulates bfloat16",
    )
    gradient_checkpointing: bool = Field(True, description="trade time for memory")
    save_steps: Positive = Field(50, description="optimiser steps between checkpoints")
    processes: Positive = Field(1, description="processes for accelerate: one per GPU")
    accelerate_config: str | None = Field(
        None, description="an accelerate configuration file, for FSDP or more machines"
    )
    report_to: tuple[Literal["wandb", "mlflow", "trackio", "tensorboard"], ...] = Field(
        (), description="trackers that get each step's figures; their packages must be installed in .venv"
    )


class Training(TrainingRun):
    """How a model is trained on the published pairs."""

    section = "training"

    loss: str = Field("orpo", description="orpo, dpo, longpo or sft")
    beta: Annotated[float, Field(gt=0)] = Field(0.1, description="weight of the odds ratio (ORPO) or of the KL (DPO)")
    sft_weight: Annotated[float, Field(ge=0)] = Field(0.0, description="DPO: weight of the likelihood of the chosen")
    nll_over: Literal["answer", "all"] = Field(
        "answer", description="ORPO: likelihood of the answer alone (the paper) or of prompt and answer (TRL)"
    )
    mix: Mix | None = Field(None, description="short-context pairs to train on too; null trains on the dataset alone")
    reasoning: Literal["drop", "keep"] = Field(
        "drop",
        description="what becomes of the reasoning of a model that thinks. drop: answers are trained without it; keep: "
        "with it, as the base model's chat template renders it",
    )
    method: Literal["lora", "full", "qlora"] = Field("lora", description="what is trained; qlora needs a GPU")
    pack_tokens: Positive | None = Field(
        None,
        description="DPO, ORPO: short questions share a pass up to so many tokens, instead of device_batch_size",
    )
    max_length: Positive = Field(
        32768,
        description="longest prompt + answer in tokens. A question whose prompt and longest answer would pass it is a "
        "drop of the plan; see over_length for longer rows of a dataset",
    )
    over_length: Literal["drop", "stop"] = Field(
        "drop",
        description="pairs of a dataset that are longer than max_length. drop: they are left out and counted, in the "
        "model's card too, and more than half of them stop the run; stop: one of them does",
    )
    offload_activations: bool = Field(
        False, description="keep what the backward pass needs in main memory instead of the GPU's: slower, longer rows"
    )
    reference: Literal["auto", "kept", "live"] = Field(
        "auto",
        description="DPO: compute the reference's log-probabilities once and keep them in the store (no second model "
        "in memory, free for a re-run), or live in every step; auto keeps them unless the steps leave rows out",
    )
    sharing: Literal["auto", "on", "off"] = Field(
        "auto",
        description="DPO, ORPO: read a question's prompt once; auto does where lengths say that it is faster",
    )
    keep_checkpoints: bool = Field(
        False,
        description="store the weights of every checkpoint beside the model, for `longmill compare --checkpoints`",
    )


class RewardTraining(TrainingRun):
    """How a reward model is trained on all judged answers of datasets."""

    section = "reward_training"

    objective: Literal["regression", "pairwise"] = Field(
        "regression",
        description="regression: a head for each scorer of the reward learns its scores, nulls left out, and the mean "
        "of the heads is the reward; pairwise: one head learns which of two answers has the higher reward",
    )
    margin: Annotated[float, Field(ge=0)] = Field(
        1.0, description="pairwise: the loss wants so many times the difference of the two rewards between the logits"
    )
    center_rewards_coefficient: Annotated[float, Field(ge=0)] = Field(
        0.0, description="pairwise: weight of the squared sum of both logits, which holds them around 0"
    )
    method: Literal["lora", "full"] = Field("lora", description="what is trained; an adapter is merged in the end")
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-4, description="peak learning rate")
    device_batch_size: Positive = Field(1, description="questions per device and forward pass, with all their answers")
    accelerate_config: str | None = Field(
        None, description="an accelerate configuration file, for more machines; not for FSDP"
    )
    max_length: Positive = Field(
        32768, description="longest prompt + answer in tokens; longer answers are counted drops, and nothing is cut"
    )
    sharing: Literal["auto", "on", "off"] = Field(
        "auto", description="read a question's prompt once for all its answers; auto does where the model allows it"
    )
    test_fraction: Fraction = Field(
        0.1, description="share of contexts to measure on, where the datasets have no test split of their own"
    )

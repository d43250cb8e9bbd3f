"""Each internal name of TRL, accelerate and transformers that Longmill uses is there and takes the same arguments.

A failure names what an upgrade changed; tasks/training/trl_seams.py says what it is used for.
"""

import dataclasses
import importlib
import importlib.metadata
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # torch and the trainers take seconds to load

SEAMS_FILE = Path(__file__).parents[3] / "tasks/training/trl_seams.py"

# Module, name, and the parameters that Longmill passes, or that its own method in place of it receives.
SIGNATURES: list[tuple[str, str, list[str]]] = [
    ("trl", "DPOTrainer._prepare_dataset", ["self", "dataset", "processing_class", "args", "dataset_name"]),
    ("trl", "DPOTrainer._precompute_ref_logps", ["self", "dataset", "name", "batch_size"]),
    ("trl", "DPOTrainer.compute_ref_log_probs", ["self", "model", "inputs"]),
    ("trl", "DPOTrainer.compute_loss", ["self", "model", "inputs", "return_outputs", "num_items_in_batch"]),
    ("trl", "DPOTrainer.create_model_card", ["self", "model_name", "dataset_name", "tags"]),
    ("trl.experimental.orpo", "ORPOTrainer.tokenize_row", ["self", "feature", "model"]),
    ("trl.experimental.orpo", "ORPOTrainer.get_batch_loss_metrics", ["self", "model", "batch", "train_eval"]),
    ("trl.experimental.orpo", "ORPOTrainer.odds_ratio_loss", ["self", "policy_chosen_logps", "policy_rejected_logps"]),
    ("trl.models", "get_act_offloading_ctx_manager", ["model"]),
    ("trl.trainer.utils", "add_fused_lm_head", ["model", "temperature", "cast_lm_head_to_fp32", "outputs"]),
    (
        "accelerate.data_loader",
        "BatchSamplerShard.__init__",
        ["self", "batch_sampler", "num_processes", "process_index", "split_batches", "even_batches"],
    ),
    ("accelerate", "Accelerator.no_sync", ["self", "model"]),
    ("accelerate", "Accelerator.reduce", ["self", "tensor", "reduction", "scale"]),
    ("transformers", "Trainer.get_train_dataloader", ["self"]),
    ("transformers", "Trainer.training_step", ["self", "model", "inputs", "num_items_in_batch"]),
    ("transformers", "Trainer.log", ["self", "logs", "start_time"]),
    ("transformers", "Trainer.floating_point_ops", ["self", "inputs"]),
]

# Attributes that TRL's constructors set, and that Longmill reads.
ATTRIBUTES: list[tuple[str, str, list[str]]] = [
    ("trl", "DPOTrainer", ["ref_model", "beta", "aux_loss_enabled", "router_aux_loss_coef"]),
    ("trl.experimental.orpo", "ORPOTrainer", ["beta", "aux_loss_enabled", "aux_loss_coef"]),
]


def _resolve(module: str, name: str) -> Any:
    value = importlib.import_module(module)
    for part in name.split("."):
        assert hasattr(value, part), f"{module}.{name} is gone"
        value = getattr(value, part)
    return value


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")


@pytest.mark.parametrize(
    ("module", "name", "parameters"), SIGNATURES, ids=[f"{module}.{name}" for module, name, _ in SIGNATURES]
)
def test_the_method_or_function_takes_the_same_arguments(module: str, name: str, parameters: list[str]) -> None:
    signature = inspect.signature(_resolve(module, name))
    assert list(signature.parameters)[: len(parameters)] == parameters, f"{module}.{name} changed: {signature}"
    for parameter in list(signature.parameters.values())[len(parameters) :]:
        has_default = parameter.default is not inspect.Parameter.empty
        assert has_default or parameter.kind is inspect.Parameter.VAR_KEYWORD, f"{module}.{name} needs {parameter}"


@pytest.mark.parametrize(("module", "name", "attributes"), ATTRIBUTES, ids=[name for _, name, _ in ATTRIBUTES])
def test_the_constructor_sets_the_attributes(module: str, name: str, attributes: list[str]) -> None:
    source = inspect.getsource(_resolve(module, name).__init__)
    for attribute in attributes:
        assert re.search(rf"self\.{attribute}\b.* = ", source), f"{module}.{name} no longer sets {attribute}"


def test_trls_dpo_constructor_calls_the_replaced_methods() -> None:
    source = inspect.getsource(_resolve("trl", "DPOTrainer.__init__"))
    for call in ("self._prepare_dataset(train_dataset", "self.train_dataset = self._precompute_ref_logps("):
        assert call in source, f"DPOTrainer.__init__ no longer has {call}"


def test_trls_orpo_calls_the_replaced_method_for_the_loss() -> None:
    source = inspect.getsource(_resolve("trl.experimental.orpo", "ORPOTrainer.compute_loss"))
    assert "loss, metrics = self.get_batch_loss_metrics(model, inputs" in source


def test_the_fused_heads_output_has_the_fields_that_are_read_and_rewritten() -> None:
    from tasks.training.shared_prefix.forward import TOKEN_FIELDS

    output = _resolve("trl.trainer.utils", "FusedCausalLMOutput")
    fields = {field.name for field in dataclasses.fields(output)}
    assert fields == {"loss", *TOKEN_FIELDS, "label_mask", "aux_loss"}


def test_a_shard_of_batches_has_the_attributes_that_are_set() -> None:
    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler, SequentialSampler

    batches = BatchSampler(SequentialSampler(range(5)), batch_size=2, drop_last=False)
    shard = BatchSamplerShard(batches, num_processes=2, process_index=1)
    shard.num_processes, shard.process_index, shard.even_batches = 1, 0, False
    assert list(shard) == [[0, 1], [2, 3], [4]]


def test_the_accelerator_says_whether_gradients_are_synchronised_and_can_be_set() -> None:
    from accelerate import Accelerator

    assert isinstance(inspect.getattr_static(Accelerator, "sync_gradients"), property)
    accelerator = Accelerator(cpu=True)
    for value in (False, True):
        accelerator.sync_gradients = value
        assert accelerator.gradient_state.sync_gradients is value


def test_a_loaded_model_names_its_attention() -> None:
    from tasks.training.trl_seams import attention_name
    from tests.support.shared_pairs import random_model

    assert attention_name(random_model()) == "sdpa"
    assert attention_name(random_model(attn_implementation="eager")) == "eager"


def test_stock_attention_and_its_mask_are_registered_as_sdpa() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    assert callable(AttentionInterface()["sdpa"]) and callable(AttentionMaskInterface()["sdpa"])


def test_the_launcher_is_a_module() -> None:
    assert importlib.util.find_spec("accelerate.commands.launch") is not None


def test_sft_batches_are_those_of_trls_own_collator() -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from tasks.training.losses.sft import ChosenCollator

    rows = [
        {"prompt_ids": [5, 6, 7], "answers": [[1], [2, 3]], "pairs": [[1, 0]]},
        {"prompt_ids": [8], "answers": [[4], [9]], "pairs": [[0, 1]]},
    ]
    examples = [
        {"input_ids": [5, 6, 7, 2, 3], "labels": [-100, -100, -100, 2, 3]},
        {"input_ids": [8, 4], "labels": [-100, 4]},
    ]
    batch, expected = ChosenCollator(0)(rows), DataCollatorForLanguageModeling(0)(examples)
    assert batch.keys() == expected.keys()
    assert all(batch[name].tolist() == expected[name].tolist() for name in batch)


def test_internal_names_are_used_in_the_seams_file_alone() -> None:
    """Private attributes of objects of other packages, and imports from inside TRL and accelerate."""
    internal_import = re.compile(r"from (trl|accelerate)\.(?!utils|experimental\.orpo import ORPOConfig)\S+ import")
    private_attribute = re.compile(r"(?<!self)(?<!cls)\._[a-z]\w*")
    root = SEAMS_FILE.parents[2]
    for path in sorted((root / "tasks/training").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path != SEAMS_FILE:
            assert not internal_import.search(text), f"{path.name} imports from inside TRL or accelerate"
            assert not private_attribute.findall(text), f"{path.name} uses {private_attribute.findall(text)}"


@pytest.mark.parametrize("package", ["trl", "accelerate", "transformers", "peft"])
def test_the_package_has_an_upper_bound(package: str) -> None:
    import tomllib

    project = tomllib.loads((SEAMS_FILE.parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    requirements = [line for line in project["project"]["dependencies"] if re.match(rf"{package}\b", line)]
    assert len(requirements) == 1 and "<" in requirements[0], f"{package} needs an upper bound in pyproject.toml"
    assert importlib.metadata.version(package)

"""A tiny Llama with random weights and a byte-level tokenizer, and a published dataset to train it on."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SPECIAL = ("<pad>", "<bos>", "<eos>", "<user>", "<assistant>")
TEMPLATE = (
    "<bos>{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tiny_tokenizer(template: str = TEMPLATE) -> Any:
    """One token per byte, and five special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *letters])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", model_max_length=4096
    )
    tokenizer.chat_template = template
    return tokenizer


def tiny_model(width: int = 32, layers: int = 2, window: int = 2048) -> Any:
    """A Llama with random weights from a fixed seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = len(SPECIAL) + 256
    settings: dict[str, Any] = {
        "vocab_size": size,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": window,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return LlamaForCausalLM(LlamaConfig(**settings))


def save_tiny(folder: Path, **options: Any) -> str:
    """The tiny model and tokenizer in a folder; returns its path."""
    tiny_model(**options).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def pair_row(index: int, prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    """A row of a published dataset, as far as training reads it."""
    return {
        "example_id": f"example-{index}",
        "context_id": f"context-{index}",
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def pair_rows(count: int, prompt_characters: int = 60) -> list[dict[str, Any]]:
    """Rows that differ."""
    return [
        pair_row(index, f"{index} " + "word " * (prompt_characters // 5), f"the answer is {index}", "I do not know")
        for index in range(count)
    ]


def question_rows(questions: int = 10) -> list[dict[str, Any]]:
    """Questions of one, two or three pairs over three answers; the last step of an epoch is short of two."""
    rows = []
    for number in range(questions):
        prompt = f"{number} " + "word " * (180 - 30 * (number % 3))
        answers = (f"the answer is {number}", "I do not know", "no")
        for chosen, rejected in ((0, 1), (0, 2), (1, 2))[: 1 + number % 3]:
            rows.append(pair_row(number, prompt, answers[chosen], answers[rejected]))
    return rows


def publish_rows(store: Path, rows: Sequence[dict[str, Any]], name: str = "tiny") -> str:
    """Write rows as a published dataset in two files; returns the manifest's path in the store."""
    folder = store / "datasets" / name / "v1"
    (folder / "data/train").mkdir(parents=True)
    files = []
    half = (len(rows) + 1) // 2
    for part in (rows[:half], rows[half:]):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(list(part)), sink)
        data = bytes(sink.getvalue().to_pybytes())
        digest = hashlib.sha256(data).hexdigest()
        path = f"data/train/{len(files):04d}-{digest[:16]}.parquet"
        (folder / path).write_bytes(data)
        files.append({"path": path, "sha256": digest, "rows": len(part), "config": "pairs", "split": "train"})
    test = {"path": "data/test/0000-0.parquet", "sha256": "0", "rows": 1, "config": "pairs", "split": "test"}
    manifest = {"schema_version": 1, "name": name, "licence": "cc-by-4.0", "files": [*files, test]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return f"datasets/{name}/v1/manifest.json"

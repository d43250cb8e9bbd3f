"""Vectors of a local model in the ledger, as an endpoint's are: the model is loaded for new texts alone.

It is for texts that come again in every run, as the answers of an evaluation do. The vectors of a dataset's answers
would make the ledger twice as large, and are never needed again.
"""

import asyncio
import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from infra.canonical import canonical_json, fingerprint, text_id
from infra.ledger import Entry
from infra.models.embedding.embedder import Embedder
from infra.models.embedding.endpoint import Vectors, read_vector
from infra.models.embedding.local import model_place
from infra.models.protocol import LedgerLike
from infra.recipe import Embedding

KIND = "local_embedding"
_FIELDS = ("model", "revision", "dtype", "max_tokens", "long_texts", "prompt", "task", "dimensions")


def recorded_embedder(settings: Embedding, ledger: LedgerLike, model: Callable[[], Embedder]) -> Embedder:
    """An embedder whose vectors of whole texts are ledger entries; `model` loads the one that makes new ones.

    Leaves out token vectors, which come from the model each time, and the sizes of texts. Raises as the model does.
    """
    if settings.endpoint is not None:
        return model()
    identity = {"kind": KIND, "files": _files(settings.model)} | settings.model_dump(include=set(_FIELDS), mode="json")

    def encode(texts: list[str]) -> Vectors:
        keys = [fingerprint({**identity, "input": text_id(text)}) for text in texts]
        vectors = {}
        for key, entry in ledger.lookup(keys).items():
            vectors[key] = read_vector(entry.reply, settings.model)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in vectors}
        if missing:
            start = time.monotonic()
            new = dict(zip(missing, model().embed(list(missing.values())), strict=True))
            _record(ledger, settings, new, time.monotonic() - start)
            vectors |= new
        return np.stack([vectors[key] for key in keys])

    def encode_tokens(texts: list[str]) -> list[Vectors]:
        return model().embed_tokens(texts)

    return Embedder(encode, encode_tokens=encode_tokens)


def _record(ledger: LedgerLike, settings: Embedding, vectors: dict[str, Vectors], seconds: float) -> None:
    """Write the vectors, base64 of little-endian float32; returns when they are durable."""
    entries = []
    for key, vector in vectors.items():
        text = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
        entry = Entry(
            key=key,
            kind=KIND,
            model=settings.model,
            revision=settings.revision,
            status=200,
            reply=canonical_json({"embedding": text}).decode(),
            prompt_tokens=0,
            completion_tokens=0,
            seconds=seconds / len(vectors),
            created=int(time.time()),
        )
        entries.append(entry)

    async def record_all() -> None:
        await asyncio.gather(*map(ledger.record, entries))

    asyncio.run(record_all())


def _files(model: str) -> list[Any]:
    """Name, bytes and time of each file of a model's folder, since another model may lie there one day; else []."""
    folder = Path(model_place(model))
    files = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file():
            stat = path.stat()
            files.append([path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns])
    return files

"""Vectors of a local model in the ledger, as an endpoint's are: the model is loaded for new texts alone.

It is for texts that come again in every run, as the answers of an evaluation do. The vectors of a dataset's answers
would make the ledger twice as large, and are never needed again.
"""

import base64
import time
from collections.abc import Callable

import numpy as np

from infra.canonical import fingerprint, text_id
from infra.models.embedding.embedder import Embedder
from infra.models.embedding.endpoint import Vectors, read_vector
from infra.models.embedding.local import model_place
from infra.models.protocol import LedgerLike
from infra.models.recorded import model_files, record_computed
from infra.recipe import Embedding

KIND = "local_embedding"
_FIELDS = ("model", "revision", "dtype", "max_tokens", "long_texts", "prompt", "task", "dimensions")


def recorded_embedder(settings: Embedding, ledger: LedgerLike, model: Callable[[], Embedder]) -> Embedder:
    """An embedder whose vectors of whole texts are ledger entries; `model` loads the one that makes new ones.

    Leaves out token vectors, which come from the model each time, and the sizes of texts. Raises as the model does.
    """
    if settings.endpoint is not None:
        return model()
    identity = {"kind": KIND, "files": model_files(model_place(settings.model))} | settings.model_dump(
        include=set(_FIELDS), mode="json"
    )

    def encode(texts: list[str]) -> Vectors:
        keys = [fingerprint({**identity, "input": text_id(text)}) for text in texts]
        vectors = {}
        for key, entry in ledger.lookup(keys).items():
            vectors[key] = read_vector(entry.reply, settings.model)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in vectors}
        if missing:
            start = time.monotonic()
            new = dict(zip(missing, model().embed(list(missing.values())), strict=True))
            replies = {key: {"embedding": _encoded(vector)} for key, vector in new.items()}
            record_computed(ledger, KIND, settings.model, settings.revision, replies, time.monotonic() - start)
            vectors |= new
        return np.stack([vectors[key] for key in keys])

    def encode_tokens(texts: list[str]) -> list[Vectors]:
        return model().embed_tokens(texts)

    return Embedder(encode, encode_tokens=encode_tokens)


def _encoded(vector: Vectors) -> str:
    """Base64 of little-endian float32."""
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()

"""An OpenAI-compatible embeddings endpoint, each text's reply in the ledger.

Texts that the ledger lacks are sent in batches through the `openai` client, which retries timeouts, 429 and
5xx with growing pauses and honours Retry-After. A batch's replies are durable before they are used.
An entry's reply is the text's own item of the response, as the endpoint sent it: base64 of little-endian
float32 where the endpoint knows it (a quarter of the size, and exact), else a list of numbers.

Leaves out: budgets (see infra/llm.py), and texts longer than the endpoint takes, which it refuses.
"""

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.canonical import canonical, fingerprint, text_id
from infra.errors import ModelError
from infra.ledger import Entry
from infra.models.client import CallCounts
from infra.models.protocol import LedgerLike
from infra.recipe import Embedding

Vectors = NDArray[np.float32]

KIND = "embedding"
_ATTEMPTS = 6
_TIMEOUT_S = 120
_BATCHES_AT_ONCE = 4


class EmbeddingEndpoint:
    """A client of one endpoint; `encode` may be called from any thread that runs no event loop."""

    def __init__(self, settings: Embedding, api_key: str | None, ledger: LedgerLike | None) -> None:
        from openai import OpenAI

        self._settings = settings
        self._ledger = ledger
        # A local server needs no key, but the client insists on one.
        self._client = OpenAI(
            base_url=settings.endpoint, api_key=api_key or "none", max_retries=_ATTEMPTS - 1, timeout=_TIMEOUT_S
        )
        self._counts = CallCounts()
        self._counting = threading.Lock()
        self._free = threading.Condition()
        self._busy: set[str] = set()  # keys that a thread is asking for

    def counts(self) -> CallCounts:
        """Texts sent and texts found in the ledger, so far, and the tokens of those sent."""
        return self._counts

    def encode(self, texts: list[str]) -> Vectors:
        """Vectors of distinct texts, [n, d]. Raises ModelError, or LedgerError when the ledger cannot be read."""
        keys = [embedding_key(self._settings, text) for text in texts]
        with self._alone_with(keys):
            replies = self._replies(keys, texts)
        vectors = [_vector(replies[key], self._name) for key in keys]
        if len({vector.shape for vector in vectors}) > 1:
            raise ModelError(
                f"{self._name} has sent vectors of different lengths; when the model changes, change embedding.revision"
            )
        return np.stack(vectors)

    @contextlib.contextmanager
    def _alone_with(self, keys: list[str]) -> Iterator[None]:
        """Wait until no other thread asks for any of these texts, so that none is paid for twice."""
        with self._free:
            self._free.wait_for(lambda: self._busy.isdisjoint(keys))
            self._busy.update(keys)
        try:
            yield
        finally:
            with self._free:
                self._busy.difference_update(keys)
                self._free.notify_all()

    def _replies(self, keys: list[str], texts: list[str]) -> dict[str, str]:
        """Each key's reply: from the ledger, or asked for now, some batches at once."""
        held = self._ledger.lookup(keys) if self._ledger else {}
        replies = {key: entry.reply for key, entry in held.items()}
        self._count(reused=len(replies))
        missing = [(key, text) for key, text in zip(keys, texts, strict=True) if key not in replies]
        with ThreadPoolExecutor(_BATCHES_AT_ONCE) as pool:
            for entries in pool.map(self._ask, _batches(missing, self._settings.batch_size)):
                replies |= {entry.key: entry.reply for entry in entries}
        return replies

    @property
    def _name(self) -> str:
        return f"embedding model {self._settings.model!r} at {self._settings.endpoint}"

    def _ask(self, batch: list[tuple[str, str]]) -> list[Entry]:
        """Embed one batch; the reply of each text as an entry, durable when it is returned."""
        from openai import OpenAIError

        texts = [text for _, text in batch]
        clock = time.monotonic()
        try:
            response = self._client.embeddings.with_raw_response.create(
                model=self._settings.model, input=texts, encoding_format="base64"
            )
            body = json.loads(response.text)
        except (OpenAIError, ValueError) as error:
            raise ModelError(
                f"{self._name} failed: {error}. Check embedding.endpoint, its key and how long a text its model "
                "takes; the replies that arrived are in the ledger, so running again pays for the rest alone"
            ) from error
        seconds = time.monotonic() - clock
        replies = _items(body, len(texts), self._name)
        tokens = _shares(_prompt_tokens(body), [len(text) for text in texts])
        entries = [
            Entry(
                key=key,
                kind=KIND,
                model=self._settings.model,
                revision=self._settings.revision,
                status=response.status_code,
                reply=reply,
                prompt_tokens=count,
                completion_tokens=0,
                seconds=seconds / len(batch),
                created=int(time.time()),
            )
            for (key, _), reply, count in zip(batch, replies, tokens, strict=True)
        ]
        self._record(entries)
        self._count(made=len(entries), prompt_tokens=sum(tokens))
        return entries

    def _record(self, entries: list[Entry]) -> None:
        if (ledger := self._ledger) is None:
            return

        async def record_all() -> None:
            await asyncio.gather(*(ledger.record(entry) for entry in entries))

        asyncio.run(record_all())

    def _count(self, **more: int) -> None:
        with self._counting:
            self._counts = self._counts.plus(**more)


def embedding_key(settings: Embedding, text: str) -> str:
    """The ledger key of one text's embedding; the batch that it travels in has no part in it."""
    return fingerprint({"kind": KIND, "model": settings.model, "revision": settings.revision, "input": text_id(text)})


def _batches(texts: list[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]


def _items(body: Any, count: int, name: str) -> list[str]:
    """The response's items as JSON text in the order of the texts, each proven to hold a vector."""
    items = body.get("data") if isinstance(body, dict) else None
    if not isinstance(items, list) or len(items) != count or not all(isinstance(item, dict) for item in items):
        raise ModelError(f"{name} did not send one vector for each of {count} texts; is it an embeddings endpoint?")
    if any("index" in item for item in items):
        places = {item.get("index"): item for item in items}
        if places.keys() != set(range(count)):
            raise ModelError(f"{name} numbered its vectors {sorted(map(str, places))}, not 0 to {count - 1}")
        items = [places[place] for place in range(count)]
    try:
        replies = [canonical(item).decode("utf-8") for item in items]
    except ValueError as error:
        raise ModelError(f"{name} sent a vector with values that are no numbers") from error
    for reply in replies:
        _vector(reply, name)
    return replies


def _vector(reply: str, name: str) -> Vectors:
    """The vector of one item. Raises ModelError when there is none."""
    sent = json.loads(reply).get("embedding")
    try:
        numbers = np.frombuffer(base64.b64decode(sent, validate=True), "<f4") if isinstance(sent, str) else sent
        vector = np.array(numbers, np.float32)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name} sent something that is no vector: {str(sent)[:80]!r}") from error
    if vector.ndim != 1 or vector.size == 0 or not np.isfinite(vector).all():
        raise ModelError(f"{name} sent a vector that is empty or holds values that are no numbers")
    return vector


def _prompt_tokens(body: dict[str, Any]) -> int:
    usage = body.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) else 0


def _shares(total: int, lengths: list[int]) -> list[int]:
    """`total` tokens of a batch divided among its texts by their lengths; the shares add up to `total`."""
    whole, running, before, shares = sum(lengths), 0, 0, []
    for length in lengths:
        running += length
        upto = total * running // whole
        shares.append(upto - before)
        before = upto
    return shares

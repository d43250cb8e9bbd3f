"""An OpenAI-compatible embeddings endpoint, with each text's reply in the ledger.

Texts that are not in the ledger are sent in batches through the `openai` client, which retries timeouts, 429 and
5xx with growing back-offs and obeys Retry-After. A batch's replies are durable before they are used. The reply in an
entry is the text's own item of the response, as the endpoint sent it: base64 of little-endian float32 where the
endpoint supports it (a quarter of the size, and exact), else a list of numbers.

A text that is too long for the endpoint's model is refused, never cut unasked: with `embedding.max_tokens` it comes in
windows, and `embedding.truncate_tokens` has vLLM cut it, which is then part of the text's key. Leaves out: budgets.
"""

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.canonical import canonical_json, fingerprint, text_id
from infra.errors import LongmillError, ModelError
from infra.ledger import Entry
from infra.models.client import CallCounts
from infra.models.protocol import LedgerLike
from infra.models.refusals.rules import refusal_reason
from infra.recipe import Embedding

Vectors = NDArray[np.float32]

KIND = "embedding"
_ATTEMPTS = 6
_TIMEOUT_S = 120
_PARALLEL_BATCHES = 4


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
        self._counts_lock = threading.Lock()
        self._in_flight: set[str] = set()  # keys that a thread is embedding
        self._in_flight_changed = threading.Condition()
        self._stopped: LongmillError | None = None

    def counts(self) -> CallCounts:
        """Texts sent and texts found in the ledger, so far, and the tokens of those sent."""
        return self._counts

    def stop(self, error: LongmillError) -> None:
        """Send nothing from now on; who wants a new vector gets `error`. Requests in flight are recorded."""
        self._stopped = error

    def close(self) -> None:
        """Disconnect. No text may be embedded after it."""
        self._client.close()

    def encode(self, texts: list[str]) -> Vectors:
        """Vectors of distinct texts, [n, d]. Raises ModelError, or LedgerError when the ledger cannot be read."""
        keys = [embedding_key(self._settings, text) for text in texts]
        with self._reserved(keys):
            replies = self._replies(keys, texts)
        vectors = [read_vector(replies[key], self._name) for key in keys]
        if len(set(map(np.shape, vectors))) > 1:
            raise ModelError(
                f"{self._name} has sent vectors of different lengths; when the model changes, change embedding.revision"
            )
        return np.stack(vectors)

    @contextlib.contextmanager
    def _reserved(self, keys: list[str]) -> Iterator[None]:
        """Wait until no other thread embeds any of these texts, so that none is paid for twice."""
        with self._in_flight_changed:
            self._in_flight_changed.wait_for(lambda: self._in_flight.isdisjoint(keys))
            self._in_flight.update(keys)
        try:
            yield
        finally:
            with self._in_flight_changed:
                self._in_flight.difference_update(keys)
                self._in_flight_changed.notify_all()

    def _replies(self, keys: list[str], texts: list[str]) -> dict[str, str]:
        """Each key's reply: from the ledger, or requested now, with some batches in parallel."""
        entries = self._ledger.lookup(keys) if self._ledger else {}
        replies = {key: entry.reply for key, entry in entries.items()}
        self._count(reused=len(replies))
        missing = []
        for key, text in zip(keys, texts, strict=True):
            if key not in replies:
                missing.append((key, text))
        with ThreadPoolExecutor(_PARALLEL_BATCHES) as pool:
            for new_entries in pool.map(self._request, _batches(missing, self._settings.batch_size)):
                for entry in new_entries:
                    replies[entry.key] = entry.reply
        return replies

    @property
    def _name(self) -> str:
        return f"embedding model {self._settings.model!r} at {self._settings.endpoint}"

    def _request(self, batch: list[tuple[str, str]]) -> list[Entry]:
        """Embed a batch of (key, text) pairs. The reply of each text is an entry, durable when it is returned."""
        from openai import OpenAIError, omit

        if self._stopped is not None:
            raise self._stopped
        prompt = self._settings.prompt or ""
        texts = [prompt + text for _, text in batch]
        started = time.monotonic()
        try:
            response = self._client.embeddings.with_raw_response.create(
                model=self._settings.model,
                input=texts,
                encoding_format="base64",
                dimensions=self._settings.dimensions or omit,
                extra_body=_extra_body(self._settings),
            )
            body = json.loads(response.text)
        except (OpenAIError, ValueError) as error:
            remedy = "Check embedding.endpoint, embedding.model and the key"
            if refusal_reason(str(error)) == "prompt_too_long":
                remedy = (
                    "Set embedding.max_tokens to the model's window, to have long texts embedded in windows (with "
                    "embedding.tokenizer, which measures them), or embedding.truncate_tokens to have them cut"
                )
            raise ModelError(
                f"{self._name} failed: {error}. {remedy}; "
                "the replies that arrived are in the ledger, so running again pays for the rest alone"
            ) from error
        seconds = time.monotonic() - started
        replies = _items(body, len(texts), self._name)
        tokens = _shares(_prompt_tokens(body), list(map(len, texts)))
        entries = []
        for (key, _), reply, prompt_tokens in zip(batch, replies, tokens, strict=True):
            entry = Entry(
                key=key,
                kind=KIND,
                model=self._settings.model,
                revision=self._settings.revision,
                status=response.status_code,
                reply=reply,
                prompt_tokens=prompt_tokens,
                completion_tokens=0,
                seconds=seconds / len(batch),
                created=int(time.time()),
            )
            entries.append(entry)
        self._record(entries)
        self._count(made=len(entries), prompt_tokens=sum(tokens))
        return entries

    def _record(self, entries: list[Entry]) -> None:
        if (ledger := self._ledger) is None:
            return

        async def record_all() -> None:
            await asyncio.gather(*map(ledger.record, entries))

        asyncio.run(record_all())

    def _count(self, **more: int) -> None:
        with self._counts_lock:
            self._counts = self._counts.plus(**more)


def embedding_key(settings: Embedding, text: str) -> str:
    """The ledger key of one text's embedding; it does not depend on the batch."""
    identity: dict[str, Any] = {
        "kind": KIND,
        "model": settings.model,
        "revision": settings.revision,
        "input": text_id(text),
    }
    for name in ("truncate_tokens", "prompt", "task", "dimensions"):
        value = getattr(settings, name)
        if value is not None:
            identity[name] = value
    return fingerprint(identity)


def _extra_body(settings: Embedding) -> dict[str, Any]:
    """What a request has besides OpenAI's own parameters."""
    body: dict[str, Any] = {}
    if settings.truncate_tokens is not None:
        body |= {"truncate_prompt_tokens": settings.truncate_tokens, "truncation_side": "right"}
    if settings.task is not None:
        body["task"] = settings.task
    return body


def _batches(texts: list[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]


def _items(body: Any, count: int, name: str) -> list[str]:
    """The response's items as JSON text, in the order of the texts. Raises ModelError when one holds no vector."""
    items = body.get("data") if isinstance(body, dict) else None
    if not isinstance(items, list) or len(items) != count or not all(isinstance(item, dict) for item in items):
        raise ModelError(f"{name} did not send one vector for each of {count} texts; is it an embeddings endpoint?")
    if any("index" in item for item in items):
        by_index = {item.get("index"): item for item in items}
        if by_index.keys() != set(range(count)):
            raise ModelError(f"{name} numbered its vectors {sorted(map(str, by_index))}, not 0 to {count - 1}")
        items.sort(key=itemgetter("index"))
    try:
        replies = [canonical_json(item).decode("utf-8") for item in items]
    except ValueError as error:
        raise ModelError(f"{name} sent a vector with values that are no numbers") from error
    for reply in replies:
        read_vector(reply, name)
    return replies


def read_vector(reply: str, name: str) -> Vectors:
    """The vector of one item. Raises ModelError when there is none."""
    embedding = json.loads(reply).get("embedding")
    try:
        if isinstance(embedding, str):
            vector = np.frombuffer(base64.b64decode(embedding, validate=True), "<f4").astype(np.float32)
        else:
            vector = np.array(embedding, np.float32)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name} sent something that is no vector: {str(embedding)[:80]!r}") from error
    if vector.ndim != 1 or vector.size == 0 or not np.isfinite(vector).all():
        raise ModelError(f"{name} sent a vector that is empty or holds values that are no numbers")
    return vector


def _prompt_tokens(body: dict[str, Any]) -> int:
    usage = body.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) else 0


def _shares(total: int, lengths: list[int]) -> list[int]:
    """`total` tokens of a batch divided among its texts by their lengths; the shares add up to `total`."""
    characters = sum(lengths)
    shares: list[int] = []
    characters_so_far = tokens_so_far = 0
    for length in lengths:
        characters_so_far += length
        tokens = total * characters_so_far // characters
        shares.append(tokens - tokens_so_far)
        tokens_so_far = tokens
    return shares

"""Calls per second through Longmill's model client beside a bare aiohttp loop, on the same stub server.

The stub runs in a process of its own and sends constant bytes, so that the client is what is measured. Bodies have
128 KB. The loop and the client take turns. Both get messages that are encoded already, build each body from them and
read the JSON of the reply. The client also computes keys, schedules, counts, and hands each reply to a ledger: to one
that drops it, and for a second figure to the real one on a local folder.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from flows.bench.common import median_ratio, stub_server
from infra.ledger import Entry, Ledger
from infra.models.client import ModelClient, Prompt, Reply, Request
from infra.models.protocol import LedgerLike
from infra.store import open_store

_SAMPLES = 16  # requests that share a prompt
_HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer none"}


class _EmptyLedger:
    """A ledger that drops all entries."""

    def lookup(self, keys: Sequence[str]) -> dict[str, Entry]:
        return {}

    def holds(self, keys: Sequence[str]) -> set[str]:
        return set()

    async def record(self, entry: Entry) -> None:
        return None


def measure(calls: int = 2000, body_bytes: int = 128 * 1024, in_flight: int = 1000, rounds: int = 5) -> dict[str, Any]:
    """Calls per second of loop and client, by round, and the median of their ratios."""
    prompts = _prompts(-(-calls // _SAMPLES), body_bytes)
    bare: list[float] = []
    client: list[float] = []
    with_ledger: list[float] = []
    with stub_server("--fixed") as url:
        _bare_rate(url, prompts, calls, in_flight)  # warms up; not counted
        for number in range(rounds):
            bare.append(_bare_rate(url, prompts, calls, in_flight))
            client.append(_client_rate(url, prompts, calls, in_flight, _EmptyLedger()))
            with tempfile.TemporaryDirectory() as folder, Ledger(open_store(str(Path(folder) / str(number)))) as ledger:
                with_ledger.append(_client_rate(url, prompts, calls, in_flight, ledger))
    return {
        "bare_calls_per_s": list(map(round, bare)),
        "client_calls_per_s": list(map(round, client)),
        "client_with_ledger_calls_per_s": list(map(round, with_ledger)),
        "ratio_median": round(median_ratio(client, bare), 3),
        "ratio_with_ledger_median": round(median_ratio(with_ledger, bare), 3),
    }


def _prompts(count: int, body_bytes: int) -> list[Prompt]:
    """Prompts whose request bodies have about `body_bytes` bytes."""
    word = "context "
    filler = word * ((body_bytes - 220) // len(word))
    prompts = []
    for number in range(count):
        message = {"role": "user", "content": f"{number:06d} {filler}"}
        prompts.append(Prompt((message,)))
    return prompts


def _parameters(number: int) -> dict[str, Any]:
    return {"temperature": 0.7, "top_p": 1.0, "max_tokens": 64, "seed": number}


def _bare_rate(url: str, prompts: list[Prompt], calls: int, in_flight: int) -> float:
    return asyncio.run(_bare(f"{url}/chat/completions", prompts, calls, in_flight))


async def _bare(url: str, prompts: list[Prompt], calls: int, in_flight: int) -> float:
    """The loop: `in_flight` workers take the next body, post it and read the text."""
    numbers = iter(range(calls))
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=2**20) as session:

        async def work() -> None:
            for number in numbers:
                rest = json.dumps({"model": "stub", **_parameters(number)}).encode()
                body = b"".join((b'{"messages":', prompts[number // _SAMPLES].encoded, b",", rest[1:]))
                async with session.post(url, data=body, headers=_HEADERS) as response:
                    json.loads(await response.read())["choices"][0]["message"]["content"]

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        return calls / (time.perf_counter() - started)


def _client_rate(url: str, prompts: list[Prompt], calls: int, in_flight: int, ledger: LedgerLike) -> float:
    """The client, with the computing of keys; the ledger is new, so every call is made."""
    with ModelClient([url], None, ledger, concurrency=in_flight, contexts_in_flight=in_flight) as client:
        started = time.perf_counter()
        requests = []
        for number in range(calls):
            context = number // _SAMPLES
            request = Request("bench", "stub", "main", prompts[context], _parameters(number), number, str(context))
            requests.append(request)
        outcomes = client.complete(requests)
        seconds = time.perf_counter() - started
    for outcome in outcomes:
        if not isinstance(outcome, Reply) or outcome.reused:
            raise RuntimeError("the stub server did not answer every call")
    return calls / seconds

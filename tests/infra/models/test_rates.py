"""Requests and tokens in a minute: shares of the time that processes claim from one another; clocks run fast here."""

import asyncio
import time
from pathlib import Path

import pytest

from infra.errors import StoreError
from infra.models.client import Reply
from infra.models.rates.limiter import OwnClaims, RateLimiter, RateLimits, StoreClaims, share_of, tokens_of_call
from infra.store import open_store
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import client_of, requests
from tests.support.stub_server import running_stub

FASTER = 60.0  # a minute of the limiters is a second


def fast_clock() -> float:
    return time.time() * FASTER


async def fast_sleep(seconds: float) -> None:
    await asyncio.sleep(seconds / FASTER)


@pytest.mark.parametrize("limits", [RateLimits(20, None), RateLimits(None, 12_345), RateLimits(7, 100_001)])
def test_the_shares_of_a_minute_sum_to_the_limits(limits: RateLimits) -> None:
    for first in (0, 1_000_000_007):
        shares = [share_of(share, limits) for share in range(first, first + 60)]
        assert sum(requests for requests, _ in shares) == (limits.requests or 0)
        assert sum(tokens for _, tokens in shares) == (limits.tokens or 0)


@pytest.mark.medium
def test_calls_are_spread_over_the_minute_and_end_well() -> None:
    limiter = RateLimiter(RateLimits(requests=60), OwnClaims(), fast_clock, fast_sleep)
    waits: list[tuple[str, str]] = []
    with running_stub() as stub:
        started = time.monotonic()
        with client_of(
            MemoryLedger(), stub, concurrency=64, rates=limiter, waits=lambda *wait: waits.append(wait)
        ) as client:
            outcomes = client.complete(requests(10, 10))
            assert client.counts()["sample"].retried == 0
        minutes = time.monotonic() - started
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert 100 / 60 - 0.3 < minutes < 5
    assert waits[0] == ("sample", "waits for its turn: at most 60 requests a minute")
    most = max(sum(entry["at"] <= later["at"] < entry["at"] + 1 for later in stub.log) for entry in stub.log)
    assert most <= 60 * 13 / 12 + 2


def test_a_limit_on_tokens_counts_what_replies_cost() -> None:
    batch = requests(2, 10)
    estimate = tokens_of_call(batch[0])
    assert estimate > 64
    limiter = RateLimiter(RateLimits(tokens=10 * estimate), OwnClaims(), fast_clock, fast_sleep)
    with running_stub() as stub, client_of(MemoryLedger(), stub, concurrency=4, rates=limiter) as client:
        started = time.monotonic()
        client.complete(batch)
        seconds = time.monotonic() - started
        spent = client.counts()["sample"]
    cost = (spent.prompt_tokens + spent.completion_tokens) / (10 * estimate)  # in minutes: less than was estimated
    assert 0.5 * cost < seconds < 4


class Sender:
    """A process, as far as its limiter goes: it sends as much as it may."""

    def __init__(self, limiter: RateLimiter) -> None:
        self.limiter = limiter
        self.sent = 0
        self.errors: list[Exception] = []
        self.request = requests(1, 1)[0]
        limiter.connect(self.send, self.errors.append)

    def send(self) -> None:
        while self.limiter.has_room():
            self.limiter.spend(self.request)
            self.sent += 1


async def _send(limiters: list[RateLimiter], seconds: float) -> list[Sender]:
    senders = [Sender(limiter) for limiter in limiters]
    for sender in senders:
        sender.send()
    await asyncio.sleep(seconds)
    for sender in senders:
        await sender.limiter.close()
    return senders


@pytest.mark.medium
def test_processes_share_a_limit_through_the_store(tmp_path: Path) -> None:
    limits = RateLimits(requests=240)
    limiters = []
    for _ in range(3):
        claims = StoreClaims(open_store(str(tmp_path)), "m", ["http://a/v1"])
        limiters.append(RateLimiter(limits, claims, fast_clock, fast_sleep))
    senders = asyncio.run(_send(limiters, 2.0))
    total = sum(sender.sent for sender in senders)
    assert total <= 240 * 2 + 60
    assert total >= 240
    assert sum(sender.sent > 0 for sender in senders) >= 2


def test_files_of_shares_that_are_over_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.models.rates.limiter._OLD_S", 8)
    store = open_store(str(tmp_path))
    for first in (1000, 2000):  # an earlier process's, and this one's
        claims = StoreClaims(store, "m", ["http://a/v1"])
        for share in range(first, first + 30):
            assert claims.claim(share)
            assert not claims.claim(share)
    assert len(store.list("rates")) == 9


def test_other_models_and_endpoints_have_limits_of_their_own(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    assert StoreClaims(store, "m", ["http://a/v1", "http://b/v1"]).claim(7)
    assert not StoreClaims(store, "m", ["http://b/v1", "http://a/v1"]).claim(7)
    assert StoreClaims(store, "n", ["http://a/v1", "http://b/v1"]).claim(7)
    assert StoreClaims(store, "m", ["http://a/v1"]).claim(7)


def test_a_store_that_is_away_ends_the_calls() -> None:
    class NoStore:
        def claim(self, share: int) -> bool:
            raise StoreError("the store is away")

    limiter = RateLimiter(RateLimits(requests=60), NoStore(), fast_clock, fast_sleep)
    with (
        running_stub() as stub,
        client_of(MemoryLedger(), stub, rates=limiter) as client,
        pytest.raises(StoreError, match="away"),
    ):
        client.complete(requests(1, 2))


def test_unused_allowance_is_saved_for_five_seconds_alone() -> None:
    now = [6000.0]
    limiter = RateLimiter(RateLimits(requests=600), OwnClaims(), lambda: now[0], fast_sleep)

    async def idle_then_count() -> int:
        limiter.connect(lambda: None, lambda error: None)
        for _ in range(40):
            now[0] += 1.0
            limiter._demand = True
            await limiter._claim_while_needed()
        count = 0
        while limiter._requests >= 1:
            limiter._requests -= 1
            count += 1
        return count

    assert asyncio.run(idle_then_count()) <= 600 * 5 / 60 + 10

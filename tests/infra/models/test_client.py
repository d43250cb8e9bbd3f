"""The model client against a real stub server: order, ledger, scheduling, budget, endings."""

import asyncio
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from flows.bench.stub_server import stub_answer
from infra.errors import BudgetReached, ModelError, RecipeError
from infra.models.budget import BudgetMeter
from infra.models.client import CallCounts, ModelClient, Reply
from infra.models.usage import ByBytes
from infra.recipe import Budget
from tests.support.judge_replies import running_judge
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import client_of, requests
from tests.support.stub_server import running_stub


def test_replies_come_in_the_order_of_their_requests(stub, ledger):
    batch = requests(5, 4)[::-1]
    with client_of(ledger, stub, concurrency=7) as client:
        outcomes = client.complete(batch)
    assert [outcome.key for outcome in outcomes] == [request.key for request in batch]
    for request, outcome in zip(batch, outcomes, strict=True):
        assert outcome.text == stub_answer(request.prompt.messages[0]["content"], request.parameters["seed"])
        assert outcome.finish_reason == "stop"
        assert not outcome.reused
        assert ledger.entries[request.key].reply == outcome.raw


def test_a_reply_in_the_ledger_is_not_paid_again(stub, ledger):
    with client_of(ledger, stub) as client:
        first = client.complete(requests(2, 4))
    with client_of(ledger, stub) as client:
        again = client.complete(requests(2, 8))
        counts = client.counts()["sample"]
    assert stub.requests == 16
    assert [outcome.reused for outcome in again] == ([True] * 4 + [False] * 4) * 2
    assert [outcome.text for outcome in again[:4]] == [outcome.text for outcome in first[:4]]
    assert (counts.made, counts.reused) == (8, 8)
    assert counts.reused_prompt_tokens == sum(outcome.prompt_tokens for outcome in first)


def test_a_request_that_stands_twice_in_a_batch_is_paid_once(stub, ledger):
    with client_of(ledger, stub) as client:
        outcomes = client.complete(requests(1, 3) + requests(1, 3))
        assert client.counts()["sample"].made == 3
    assert stub.requests == 3
    assert [outcome.reused for outcome in outcomes] == [False] * 3 + [True] * 3
    assert [outcome.text for outcome in outcomes[:3]] == [outcome.text for outcome in outcomes[3:]]


def test_a_request_of_several_threads_at_once_is_paid_once(stub, ledger):
    stub.hold()
    with client_of(ledger, stub) as client, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(client.complete, requests(2, 4)) for _ in range(4)]
        stub.wait_for(8)
        stub.release()
        results = [future.result(20) for future in waiting]
        counts = client.counts()["sample"]
    assert stub.requests == 8
    assert (counts.made, counts.reused) == (8, 24)
    assert all([reply.text for reply in result] == [reply.text for reply in results[0]] for result in results)


def test_calls_in_flight_stay_below_the_limit(stub, ledger):
    with client_of(ledger, stub, concurrency=3) as client:
        client.complete(requests(4, 5))
    assert stub.max_in_flight <= 3
    assert stub.requests == 20


def test_calls_in_flight_stay_below_the_limit_over_all_endpoints(ledger):
    with running_stub() as one, running_stub() as two, client_of(ledger, one, two, concurrency=3) as client:
        one.witness = two.witness = lambda: one.requests + two.requests - len(ledger.entries)
        client.complete(requests(20, 4))
        assert max(entry["witness"] for stub in (one, two) for entry in stub.log) <= 3


def test_the_requests_of_a_context_go_together_and_contexts_in_flight_are_bounded(stub, ledger):
    batch = requests(6, 3)
    stub.witness = lambda: _finished_contexts(batch, ledger)
    stub.hold()
    with client_of(ledger, stub, concurrency=100, contexts_in_flight=2) as client, ThreadPoolExecutor(1) as pool:
        done = pool.submit(client.complete, batch)
        stub.wait_for(6)
        stub.release()
        done.result(20)
    for number, entry in enumerate(stub.log):
        begun = {earlier["prompt"][:9] for earlier in stub.log[: number + 1]}
        assert len(begun - entry["witness"]) <= 2


def _finished_contexts(batch, ledger):
    """Contexts whose calls are all recorded."""
    unfinished = {request.affinity for request in batch if request.key not in ledger.entries}
    return {request.affinity for request in batch} - unfinished


def test_later_batches_wait_for_their_turn(stub, ledger):
    stub.hold()
    with client_of(ledger, stub, concurrency=2, contexts_in_flight=1) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.complete, requests(2, 2))
        stub.wait_for(2)
        second = pool.submit(client.complete, requests(3, 2)[4:])
        stub.release()
        first.result(20), second.result(20)
    assert [entry["prompt"][:9] for entry in stub.log] == [f"context {number}" for number in (0, 0, 1, 1, 2, 2)]


def test_a_context_goes_to_one_endpoint(ledger):
    with running_stub() as one, running_stub() as two, client_of(ledger, one, two) as client:
        client.complete(requests(24, 3))
        contexts_of_one = {entry["prompt"][:10] for entry in one.log}
        contexts_of_two = {entry["prompt"][:10] for entry in two.log}
    assert not contexts_of_one & contexts_of_two
    assert len(contexts_of_one | contexts_of_two) == 24
    assert min(len(contexts_of_one), len(contexts_of_two)) >= 3


def test_a_slot_is_free_only_when_the_reply_is_durable(stub):
    class SlowLedger(MemoryLedger):
        async def record(self, entry):
            await asyncio.sleep(0.02)
            await super().record(entry)

    ledger = SlowLedger()
    stub.witness = lambda: len(ledger.entries)
    with client_of(ledger, stub, concurrency=2) as client:
        client.complete(requests(1, 8))
    unrecorded = [number + 1 - entry["witness"] for number, entry in enumerate(stub.log)]
    assert max(unrecorded) == 2


def test_calls_are_counted_by_kind_and_progress_is_reported(stub, ledger):
    progress = []
    with client_of(ledger, stub, progress=lambda kind, done: progress.append((kind, done))) as client:
        replies = client.complete(requests(1, 3) + requests(1, 2, kind="judge", text="other"))
        counts = client.counts()
    assert (counts["sample"].made, counts["judge"].made) == (3, 2)
    assert counts["sample"].completion_tokens == sum(reply.completion_tokens for reply in replies[:3]) > 0
    assert counts["judge"].plus(made=1) == CallCounts(**{**_fields(counts["judge"]), "made": 3})
    assert sorted(progress) == [("judge", 1)] * 2 + [("sample", 1)] * 3


def test_tokens_of_thinking_are_counted_once_by_the_server_or_else_by_the_tokenizer(ledger):
    class Words(ByBytes):
        def text(self, text):
            return len(text.split())

    def reply(body):
        return "<think>One two three.</think>Four." if "context 0" in body["messages"][0]["content"] else "Plain."

    with running_judge(reply) as server:
        for made in (4, 0):  # two of three tokens, twice; then the ledger: nothing is spent
            with client_of(ledger, server, counter=Words()) as client:
                replies = client.complete(requests(2, 2))
                assert {reply.text for reply in replies} == {"Four.", "Plain."}
                assert client.counts()["sample"].reasoning_tokens == made
        with client_of(MemoryLedger(), server) as client:  # no tokenizer is at hand: 14 bytes of 19
            client.complete(requests(2, 2))
            assert client.counts()["sample"].reasoning_tokens == 4


def test_prompt_tokens_from_the_servers_cache_are_counted_where_it_says_so(ledger):
    for cached in (0, 3):
        with running_stub(cached_tokens=cached) as server, client_of(MemoryLedger(), server) as client:
            client.complete(requests(1, 2))
            assert client.counts()["sample"].cached_prompt_tokens == 2 * cached


def _fields(counts):
    return {name: getattr(counts, name) for name in CallCounts.__dataclass_fields__}


def test_the_call_budget_is_exact_and_resumes_when_raised(stub, ledger):
    for _ in range(2):  # the second time nothing is sent: replies in the ledger count
        with client_of(ledger, stub, concurrency=4, budget=Budget(calls=10)) as client:
            with pytest.raises(BudgetReached, match=r"budget\.calls = 10 is reached.*10 calls"):
                client.complete(requests(3, 8))
            assert client.counts()["sample"].failed == 0
        assert stub.requests == len(ledger.entries) == 10
    with client_of(ledger, stub, concurrency=4, budget=Budget(calls=24)) as client:
        assert len(client.complete(requests(3, 8))) == 24
        assert client.complete(requests(3, 8))[0].reused  # a spent budget still reads what is paid for
    assert stub.requests == 24


def test_a_token_budget_is_passed_by_the_calls_in_flight_at_most(stub, ledger):
    with (
        client_of(ledger, stub, concurrency=3, budget=Budget(tokens=50)) as client,
        pytest.raises(BudgetReached, match="tokens"),
    ):
        client.complete(requests(1, 40))
    call_tokens = max(entry.prompt_tokens + entry.completion_tokens for entry in ledger.entries.values())
    assert len(ledger.entries) <= 50 / call_tokens + 1 + 3


def test_failed_calls_do_not_use_the_budget_up(stub, ledger):
    stub.options.script = ["500"] * 5
    with client_of(ledger, stub, concurrency=1, budget=Budget(calls=3)) as client:
        assert all(isinstance(outcome, Reply) for outcome in client.complete(requests(1, 3)))


def test_clients_share_a_meter(stub, ledger):
    meter = BudgetMeter(Budget(calls=5))
    with client_of(ledger, stub, budget=meter) as one, client_of(ledger, stub, budget=meter) as two:
        one.complete(requests(1, 3))
        with pytest.raises(BudgetReached):
            two.complete(requests(1, 4, text="more"))
    assert stub.requests == 5


def test_closing_ends_the_waiting_calls_and_a_closed_client_refuses_more(stub, ledger):
    stub.hold()
    client = client_of(ledger, stub, concurrency=1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.complete, requests(1, 3))
        stub.wait_for(1)
        closing = threading.Thread(target=client.close)
        closing.start()
        stub.release()
        closing.join(20)
        with pytest.raises(ModelError, match="closed"):
            waiting.result(20)
    assert stub.requests == len(ledger.entries) == 1  # the call in flight was paid for, and recorded
    with pytest.raises(ModelError, match="closed"):
        client.complete(requests(1, 3))
    client.close()


def test_an_interrupted_thread_cancels_its_waiting_calls_and_records_those_in_flight(stub, ledger, monkeypatch):
    stub.hold()
    cancelled = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background ignores it
    with client_of(ledger, stub, concurrency=2) as client:
        cancel = client._single_flight.cancel
        monkeypatch.setattr(client._single_flight, "cancel", lambda *args: (cancel(*args), cancelled.set()))

        def interrupt():
            stub.wait_for(2)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            cancelled.wait(20)
            stub.release()

        helper = threading.Thread(target=interrupt)
        helper.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                client.complete(requests(1, 6))
        finally:
            signal.signal(signal.SIGINT, before)
        helper.join(20)
        deadline = time.monotonic() + 20  # on a busy machine the calls in flight may be recorded a moment later
        while len(ledger.entries) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stub.requests == len(ledger.entries) == 2
        assert len(client.complete(requests(1, 6))) == 6  # and the client still works
    assert stub.requests == 6


def test_no_request_is_no_call(stub, ledger):
    with client_of(ledger, stub) as client:
        assert client.complete([]) == []
    assert ledger.looked_up == stub.requests == 0


@pytest.mark.parametrize("endpoints", [[], ["localhost:8000/v1"]])
def test_endpoints_that_are_no_urls_are_refused(endpoints, ledger):
    with pytest.raises(RecipeError, match="/v1"):
        ModelClient(endpoints, None, ledger)

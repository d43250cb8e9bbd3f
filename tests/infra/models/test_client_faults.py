"""The model client when servers are busy, wrong, slow or gone, against real stub servers."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiohttp import web

from infra.errors import LedgerError, ModelError, RefusedError, StoreError
from infra.models.client import Failure, Reply
from infra.models.refusals.streaks import LIMIT
from infra.models.sending.call_settings import CallListener
from infra.models.sending.endpoint import Endpoint
from infra.models.sending.transport import proxy_for
from infra.serving.checks import free_port
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import client_of, requests
from tests.support.stub_server import StubServer, running_stub


def dead_url():
    return f"http://127.0.0.1:{free_port()}/v1"


@pytest.mark.parametrize(
    "fault", ["500", "502", "429", "503", "529", "408", "409", "reset", "garbage", "empty_choices"]
)
def test_a_temporary_failure_is_tried_again(stub, ledger, fault):
    stub.options.script = [fault, fault]
    with client_of(ledger, stub) as client:
        assert isinstance(client.complete(requests(1, 1))[0], Reply)
        counts = client.counts()["sample"]
    assert (counts.made, counts.retried, counts.failed) == (1, 2, 0)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("500", "server_error"), ("429", "busy"), ("garbage", "bad_reply"), ("reset", "connection")],
)
def test_a_call_without_attempts_left_is_a_failure_that_the_next_run_tries_again(stub, ledger, fault, reason):
    stub.options.script = [fault] * 3
    with client_of(ledger, stub, attempts=3) as client:
        (failure,) = client.complete(requests(1, 1))
        assert isinstance(failure, Failure)
        assert (failure.reason, failure.permanent) == (reason, False)
        assert stub.requests == 3
        counts = client.counts()["sample"]
        assert (counts.failed, counts.retried) == (1, 2)
        assert not ledger.entries
        assert isinstance(client.complete(requests(1, 1))[0], Reply)


def test_a_call_that_takes_too_long_is_a_timeout(stub, ledger):
    stub.hold()
    with client_of(ledger, stub, attempts=2, timeout_s=0.1) as client:
        (failure,) = client.complete(requests(1, 1))
    assert (failure.reason, failure.permanent) == ("timeout", False)
    assert stub.requests == 2


def test_a_call_that_fails_does_not_fail_the_others(stub, ledger):
    stub.options.script = ["ok", "500", "ok"]
    with client_of(ledger, stub, attempts=1, concurrency=1) as client:
        outcomes = client.complete(requests(1, 3))
    assert [type(outcome) for outcome in outcomes] == [Reply, Failure, Reply]


def test_retry_after_pauses_the_whole_endpoint(stub, ledger):
    stub.options.script = ["429:0.3"]
    with client_of(ledger, stub, concurrency=1) as client:
        client.complete(requests(3, 2))
    times = [entry["at"] for entry in stub.log]
    assert len(times) == 7
    assert times[1] - times[0] >= 0.3


def test_a_busy_server_is_sent_less_at_once(stub, ledger, caplog):
    stub.options.busy_above = 4
    stub.options.latency = 0.005
    with client_of(ledger, stub, concurrency=32, attempts=50) as client:
        outcomes = client.complete(requests(8, 12))
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert client._scheduler._endpoints[0].limit.limit < 10
    assert stub.paid_twice == 0
    assert not caplog.records  # no error in the event loop


def test_a_wrong_key_is_reported_with_its_remedy_and_never_printed(stub, ledger):
    stub.options.api_key = "right"
    with client_of(ledger, stub, api_key="sk-wrong-secret", api_key_env="MY_KEY", concurrency=2) as client:
        with pytest.raises(RefusedError, match="MY_KEY") as caught:
            client.complete(requests(4, 5))
        assert "sk-wrong-secret" not in str(caught.value)
    assert stub.requests <= LIMIT + 1  # those in flight when it stops
    assert not ledger.entries


def test_the_key_is_sent_with_every_request(stub, ledger):
    stub.options.api_key = "right"
    with client_of(ledger, stub, api_key="right", concurrency=1) as client:
        assert all(isinstance(outcome, Reply) for outcome in client.complete(requests(1, 3)))
    assert stub.headers["Content-Type"] == "application/json"


def test_an_unknown_model_is_an_error_and_another_model_goes_on(stub, ledger):
    with client_of(ledger, stub) as client, ThreadPoolExecutor(1) as pool:
        good = pool.submit(client.complete, requests(2, 2))
        with pytest.raises(ModelError, match=r"does not exist.*check the model's name"):
            client.complete(requests(2, 2, model="unknown"))
        assert len(good.result(20)) == 4


@pytest.mark.medium
def test_an_unknown_model_leaves_the_calls_of_another_model_that_back_off(stub, ledger):
    stub.options.script = ["500"]
    retried = threading.Event()
    with client_of(ledger, stub, backoff_s=1.0) as client, ThreadPoolExecutor(1) as pool:
        count_retried = client._scheduler._listener.retried
        client._scheduler._listener = CallListener(
            client._scheduler._listener.ended, lambda request: (count_retried(request), retried.set())
        )
        good = pool.submit(client.complete, requests(1, 1))
        assert retried.wait(20)
        with pytest.raises(ModelError, match="does not exist"):
            client.complete(requests(1, 1, model="unknown"))
        assert isinstance(good.result(20)[0], Reply)


def test_a_spent_account_stops_the_run_after_a_few_refusals(stub, ledger, monkeypatch):
    monkeypatch.setattr("tests.support.stub_server._fault", _no_quota)
    stub.options.script = ["429"] * 9
    with client_of(ledger, stub) as client, pytest.raises(RefusedError, match="top the account up"):
        client.complete(requests(1, 1))
    assert stub.requests == LIMIT
    assert not ledger.entries


def test_a_stray_refusal_is_tried_again(stub, ledger):
    stub.options.script = ["401", "404"]
    with client_of(ledger, stub, concurrency=1) as client:
        assert all(isinstance(outcome, Reply) for outcome in client.complete(requests(1, 2)))


def test_a_refusal_of_one_endpoint_stops_the_run_though_another_replies(stub, ledger):
    with (
        running_stub(api_key="another") as closed,
        client_of(ledger, stub, closed, concurrency=2) as client,
        pytest.raises(RefusedError, match=closed.url),
    ):
        client.complete(requests(12, 4))


def _no_quota(request, fault):
    from tests.support.stub_server import _error

    return _error(429, "You exceeded your current quota.", "insufficient_quota")


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"prompt_limit": 3}, "prompt_too_long"), ({"filter_word": "answer"}, "content_filter")],
)
def test_a_refused_prompt_is_a_counted_outcome_and_is_not_sent_again(ledger, options, reason):
    with running_stub(**options) as stub, client_of(ledger, stub) as client:
        for _ in range(2):
            (failure,) = client.complete(requests(1, 1))
            assert (failure.reason, failure.permanent) == (reason, True)
        assert stub.requests == 1
        assert (client.counts()["sample"].failed, client.counts()["sample"].reused) == (1, 1)


def test_a_bad_request_that_nothing_explains_stops_the_run_where_nothing_succeeds(stub, ledger):
    stub.options.script = ["400"] * 99
    with client_of(ledger, stub, concurrency=1) as client, pytest.raises(RefusedError, match="asked for 400"):
        client.complete(requests(LIMIT, 1))
    assert LIMIT <= stub.requests < 6 * LIMIT  # not all attempts of all calls
    assert not ledger.entries


def test_one_prompt_that_is_refused_before_all_others_does_not_stop_the_run(ledger):
    class Picky(StubServer):
        def _answer(self, raw, body, content):
            if content.startswith("context 0 "):
                return web.Response(status=400, text="no")
            return super()._answer(raw, body, content)

    with running_stub(make=Picky) as stub, client_of(ledger, stub, concurrency=1) as client:
        outcomes = client.complete(requests(3, LIMIT + 1))
    refused, others = outcomes[: LIMIT + 1], outcomes[LIMIT + 1 :]
    assert {outcome.reason for outcome in refused} == {"bad_request"}
    assert all(isinstance(outcome, Reply) for outcome in others)


def test_a_bad_request_that_nothing_explains_is_the_prompts_where_others_succeed(stub, ledger):
    stub.options.script = ["ok", "400"]
    with client_of(ledger, stub, concurrency=1) as client:
        reply, failure = client.complete(requests(2, 1))
    assert isinstance(reply, Reply)
    assert (failure.reason, failure.permanent, failure.detail) == ("bad_request", True, "asked for 400")
    assert ledger.entries[failure.key].status == 400
    with client_of(ledger, stub) as client:  # in the next run too, whose own calls have not succeeded yet
        stub.options.script = ["400"]
        *_, another = client.complete(requests(3, 1))
    assert another.reason == "bad_request"


def test_an_empty_completion_is_a_reply(ledger):
    with running_stub(empty_word="answer") as stub, client_of(ledger, stub) as client:
        (reply,) = client.complete(requests(1, 1))
    assert (reply.text, reply.finish_reason) == ("", "stop")


def test_a_compressed_reply_is_read(ledger):
    with running_stub(compress=True) as stub, client_of(ledger, stub) as client:
        (reply,) = client.complete(requests(1, 1))
    assert reply.text.startswith("The answer is")
    assert reply.raw.startswith("{")


def test_a_prompt_of_several_megabytes_passes(stub, ledger):
    with client_of(ledger, stub) as client:
        (reply,) = client.complete(requests(1, 1, text="word " * 600_000))
    assert reply.prompt_tokens > 600_000


def test_endpoints_that_are_all_gone_are_named_with_the_remedy(ledger):
    gone = [dead_url(), dead_url()]
    with client_of(ledger, *gone, attempts=3) as client, pytest.raises(ModelError, match="Start the server") as caught:
        client.complete(requests(3, 3))
    assert all(url in str(caught.value) for url in gone)


def test_after_the_error_the_next_call_gets_as_many_attempts(ledger, monkeypatch):
    failures, mark_unreachable = [], Endpoint.mark_unreachable
    monkeypatch.setattr(Endpoint, "mark_unreachable", lambda *args: (mark_unreachable(*args), failures.append(args)))
    with client_of(ledger, dead_url(), attempts=3) as client:
        for _ in range(2):
            with pytest.raises(ModelError):
                client.complete(requests(1, 1))
    assert len(failures) == 6


def test_the_contexts_of_a_dead_endpoint_go_to_the_others(stub, ledger):
    with client_of(ledger, dead_url(), stub, concurrency=4) as client:
        outcomes = client.complete(requests(12, 2))
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert stub.requests == 24


def test_an_endpoint_that_dies_during_a_run_is_replaced(stub, ledger):
    with running_stub(die_after=6) as dying, client_of(ledger, dying, stub, concurrency=4) as client:
        outcomes = client.complete(requests(16, 2))
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert dying.requests >= 6  # it had a share of the calls
    paid_twice = set(stub.answered) & set(dying.answered)  # replies that were lost when the endpoint died
    assert len(paid_twice) <= 4
    assert len(set(stub.answered) | set(dying.answered)) == len(ledger.entries) == 32


def test_an_endpoint_that_comes_back_is_used_again(ledger, monkeypatch):
    unreachable, port = threading.Event(), free_port()
    mark_unreachable = Endpoint.mark_unreachable
    monkeypatch.setattr(Endpoint, "mark_unreachable", lambda *args: (mark_unreachable(*args), unreachable.set()))
    with (
        client_of(ledger, f"http://127.0.0.1:{port}/v1", backoff_s=0.1, attempts=10) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(client.complete, requests(2, 2))
        assert unreachable.wait(20)
        with running_stub(port):
            assert all(isinstance(outcome, Reply) for outcome in waiting.result(20))


def test_a_reply_that_cannot_be_recorded_stops_the_run(stub):
    class FullLedger(MemoryLedger):
        async def record(self, entry):
            raise StoreError("disk full")

    with client_of(FullLedger(), stub, concurrency=2) as client, pytest.raises(StoreError, match="disk full"):
        client.complete(requests(3, 4))
    assert stub.requests <= 3  # those in flight, and no call after them


def test_a_ledger_that_cannot_be_read_pays_nothing(stub, ledger):
    ledger.fault = LedgerError("bucket gone")
    with client_of(ledger, stub) as client:
        with pytest.raises(LedgerError, match="bucket gone"):
            client.complete(requests(1, 4))
        assert stub.requests == 0
        ledger.fault = None
        assert len(client.complete(requests(1, 4))) == 4  # no call was left behind


def test_only_other_machines_are_reached_through_a_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_for("http://outside.example/v1") == "http://proxy:3128"
    for url in ("http://127.0.0.1:8000/v1", "http://localhost/v1", "http://inside.example/v1"):
        assert proxy_for(url) is None


def test_a_server_error_does_not_lower_the_limit(stub, ledger):
    stub.options.script = ["500"]
    with client_of(ledger, stub, concurrency=8) as client:
        client.complete(requests(1, 1))
        assert client._scheduler._endpoints[0].limit.limit == 8
    assert all(0 < entry.seconds < 60 for entry in ledger.entries.values())


def test_closing_ends_a_call_that_backs_off(stub, ledger, monkeypatch):
    monkeypatch.setattr("infra.models.sending.scheduler.backoff", lambda attempt, base_s: 30.0)
    stub.options.script = ["500"]
    client = client_of(ledger, stub)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.complete, requests(1, 1))
        stub.wait_for(1)
        client.close()
        with pytest.raises(ModelError, match="closed"):
            waiting.result(20)

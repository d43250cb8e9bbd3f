"""Calls by batches against a stub of the protocol: gathered, paid once, every outcome in its place."""

import json
import threading

import pytest

from infra.errors import BudgetReached, ModelError, RefusedError
from infra.models.batches import scheduler
from infra.models.batches.records import open_batches
from infra.models.batches.scheduler import Batching
from infra.models.budget import BudgetMeter
from infra.models.client import Failure, Reply
from infra.recipe import BatchSettings, Budget, Price
from infra.store import open_store
from tests.support.batch_stub import running_batches
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import client_of, requests
from tests.support.stub_server import running_stub

QUICK = BatchSettings(gather_s=0.05, poll_s=0.02)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "mill"))


def batch_client(stub, ledger, store, said=None, **settings):
    batching = Batching(store, "stub", QUICK, (said if said is not None else []).append)
    return client_of(ledger, stub, batching=batching, **settings)


@pytest.mark.medium
def test_replies_are_those_of_live_calls_and_the_ledger_has_the_same_keys(ledger, store):
    live = MemoryLedger()
    with running_batches() as stub:
        with client_of(live, stub) as client:
            expected = client.complete(requests(3, 4))
        with batch_client(stub, ledger, store) as client:
            outcomes = client.complete(requests(3, 4))
            counts = client.counts()["sample"]
    assert stub.sizes == [12] and counts.made == 12
    for outcome, other in zip(outcomes, expected, strict=True):
        assert (outcome.key, outcome.text, outcome.finish_reason) == (other.key, other.text, other.finish_reason)
        assert (outcome.prompt_tokens, outcome.completion_tokens) == (other.prompt_tokens, other.completion_tokens)
    assert ledger.entries.keys() == live.entries.keys()
    assert {entry.kind for entry in ledger.entries.values()} == {"sample"}
    assert open_batches(store) == [] and store.list("batches") == []


def test_calls_of_many_threads_make_one_batch(ledger, store):
    with running_batches() as stub, batch_client(stub, ledger, store) as client:
        threads = [threading.Thread(target=client.complete, args=(requests(2, 3, text=str(n)),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert stub.sizes == [48] and stub.paid_twice == 0


def shuffled_doubled_and_strange(lines):
    strange = json.dumps({"custom_id": "0" * 64, "response": {"status_code": 200, "body": {}}, "error": None})
    return [*lines[::-1], *lines, strange.encode() + b"\n", b"not JSON\n", b'{"custom_id": 5}\n']


def test_lines_come_in_any_order_twice_and_with_strange_ids(ledger, store):
    with (
        running_batches(change_output=shuffled_doubled_and_strange) as stub,
        batch_client(stub, ledger, store) as client,
    ):
        outcomes = client.complete(requests(2, 5))
    assert [outcome.key for outcome in outcomes] == [request.key for request in requests(2, 5)]
    assert all(isinstance(outcome, Reply) for outcome in outcomes) and len(ledger.entries) == 10
    assert stub.sizes == [10]


@pytest.mark.parametrize("ending", ["expired", "cancelled"])
def test_what_a_batch_has_brought_is_used_and_the_rest_is_asked_again(ending, ledger, store):
    with running_batches(endings=[ending]) as stub, batch_client(stub, ledger, store) as client:
        outcomes = client.complete(requests(2, 6))
        counts = client.counts()["sample"]
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert stub.sizes == [12, 6] and stub.paid_twice == 0
    assert (counts.made, counts.retried) == (12, 6)
    assert store.list("batches") == []


def test_batches_that_bring_nothing_end_the_calls_after_all_attempts(ledger, store):
    with (
        running_batches(endings=["expired"] * 9, answered_share=0.0) as stub,
        batch_client(stub, ledger, store, attempts=3) as client,
    ):
        outcomes = client.complete(requests(1, 4))
    assert stub.sizes == [4] * 3
    assert {(outcome.reason, outcome.permanent) for outcome in outcomes} == {("timeout", False)}
    assert "is expired" in outcomes[0].detail and ledger.entries == {}


def test_refusals_have_the_classes_of_live_calls(ledger, store):
    faults = {0: (400, filtered()), 1: (429, {"error": {"message": "slow down"}}), 2: (200, {"no": "choices"})}

    def fault(body):
        return faults.pop(body["seed"], None)

    with running_batches(line_faults=fault) as stub, batch_client(stub, ledger, store) as client:
        outcomes = client.complete(requests(1, 4))
    assert isinstance(outcomes[0], Failure) and outcomes[0].reason == "content_filter" and outcomes[0].permanent
    assert all(isinstance(outcome, Reply) for outcome in outcomes[1:])
    assert stub.sizes == [4, 2]
    assert sorted(entry.status for entry in ledger.entries.values()) == [200, 200, 200, 400]


def filtered():
    return {"error": {"message": "The prompt was filtered by the content management policy.", "code": "content_filter"}}


def test_an_error_in_the_place_of_a_response_has_its_class_too(ledger, store):
    def change(lines):
        changed = []
        for line in lines:
            outcome = json.loads(line)
            if "filtered" in json.dumps(outcome["response"]):
                outcome |= {"response": None, "error": {"code": "400", **filtered()["error"]}}
            changed.append(json.dumps(outcome).encode() + b"\n")
        return changed

    with (
        running_batches(change_output=change, filter_word="context 1") as stub,
        batch_client(stub, ledger, store) as client,
    ):
        outcomes = client.complete(requests(2, 1))
    assert isinstance(outcomes[0], Reply) and stub.sizes == [2]
    assert isinstance(outcomes[1], Failure) and outcomes[1].permanent


def test_a_refused_form_is_settled_and_sent_again(ledger, store):
    def fault(body):
        if "max_tokens" in body:
            words = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            return 400, {"error": {"message": words, "code": "unsupported_parameter"}}
        return None

    with running_batches(line_faults=fault) as stub, batch_client(stub, ledger, store) as client:
        outcomes = client.complete(requests(1, 5))
        settled = client.settled()
    assert stub.sizes == [5, 5] and all(isinstance(outcome, Reply) for outcome in outcomes)
    assert settled[0].startswith("max_tokens is sent as max_completion_tokens")


def test_lines_that_refuse_the_account_stop_the_run_and_what_was_paid_is_recorded(ledger, store):
    def fault(body):
        return (402, {"error": {"message": "Insufficient credits"}}) if body["seed"] >= 3 else None

    with (
        running_batches(line_faults=fault) as stub,
        batch_client(stub, ledger, store) as client,
        pytest.raises(RefusedError, match="Insufficient credits"),
    ):
        client.complete(requests(1, 8))
    assert len(ledger.entries) == 3 and stub.sizes == [8] and store.list("batches") == []


@pytest.mark.parametrize(
    ("faults", "made"),
    [(["429"], 1), (["500"], 1), (["500 made"], 1), (["lost made"], 1), (["429", "500", "500 made"], 1)],
)
def test_a_batch_is_made_once_whatever_happens_to_its_making(faults, made, ledger, store):
    with running_batches(create_faults=faults) as stub, batch_client(stub, ledger, store) as client:
        outcomes = client.complete(requests(1, 4))
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert stub.sizes == [4] * made and stub.paid_twice == 0


@pytest.mark.medium
def test_a_batch_for_which_there_is_no_room_waits_or_is_cut(ledger, store):
    with running_batches(room=5) as stub, batch_client(stub, ledger, store) as client:
        outcomes = client.complete(requests(2, 8))
    assert all(isinstance(outcome, Reply) for outcome in outcomes) and stub.paid_twice == 0
    answered = [batch for batch in stub.batches.values() if batch["status"] == "completed"]
    assert sum(batch["request_counts"]["total"] for batch in answered) == 16
    assert max(batch["request_counts"]["total"] for batch in answered) <= 5


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (("model_not_found", "The model `stub` does not exist."), "does not exist"),
        (("billing_hard_limit_reached", "Billing hard limit has been reached"), "Billing hard limit"),
        (("invalid_json_line", "This line is not parseable as valid JSON."), "not parseable"),
    ],
)
def test_a_batch_that_the_server_does_not_take_stops_the_run_with_its_words(failure, words, ledger, store):
    with (
        running_batches(endings=["failed"], failures=[failure]) as stub,
        batch_client(stub, ledger, store) as client,
        pytest.raises(RefusedError, match=words),
    ):
        client.complete(requests(1, 4))
    assert stub.sizes == [4] and ledger.entries == {} and store.list("batches") == []


def test_an_endpoint_without_batches_is_named_with_the_remedy(ledger, store):
    with (
        running_stub() as stub,
        batch_client(stub, ledger, store) as client,
        pytest.raises(RefusedError, match=r"has no batches.*mode: live"),
    ):
        client.complete(requests(1, 2))
    assert store.list("batches") == []


def test_replies_whose_file_is_not_named_are_not_paid_again(ledger, store):
    with running_batches(names_files=False) as stub:
        for _ in range(2):
            with batch_client(stub, ledger, store) as client, pytest.raises(ModelError, match="names no file"):
                client.complete(requests(1, 4))
        assert stub.sizes == [4]
        stub.files["output-late"] = b"".join(late_lines(stub))
        stub.batches["batch_1"]["output_file_id"] = "output-late"
        with batch_client(stub, ledger, store) as client:
            assert all(isinstance(outcome, Reply) for outcome in client.complete(requests(1, 4)))
    assert stub.sizes == [4]


def late_lines(stub):
    for line in stub.files["file-1"].splitlines():
        request = json.loads(line)
        body = json.loads(stub._answer(line, request["body"], request["body"]["messages"][-1]["content"]).text)
        yield json.dumps({"custom_id": request["custom_id"], "response": {"status_code": 200, "body": body}}).encode()
        yield b"\n"


@pytest.mark.medium
def test_a_file_that_fails_to_come_is_fetched_again(ledger, store):
    with running_batches(file_faults=[502, 500]) as stub, batch_client(stub, ledger, store) as client:
        assert all(isinstance(outcome, Reply) for outcome in client.complete(requests(1, 4)))
    assert stub.sizes == [4]


def close_while_waiting(stub, client):
    """Close a client while the stub is held at the place where it stops; its three calls end with an error."""
    thread = threading.Thread(target=pytest.raises, args=(ModelError, client.complete, requests(1, 3)))
    thread.start()
    assert stub.stopped.wait(20)
    client.close()
    thread.join(20)


def test_a_lost_batch_is_named_and_not_paid_again(ledger, store):
    with running_batches(stops_at="look") as stub:
        close_while_waiting(stub, batch_client(stub, ledger, store))
        stub.go_on()
        stub.batches.clear()
        with batch_client(stub, ledger, store) as client, pytest.raises(ModelError, match=r"does not know batch_?\S*"):
            client.complete(requests(1, 3))
    assert stub.sizes == []


def test_an_interrupted_run_leaves_its_batch_running_says_so_and_takes_it_over(ledger, store):
    said = []
    with running_batches(stops_at="look") as stub:
        close_while_waiting(stub, batch_client(stub, ledger, store, said))
        assert len(said) == 1 and said[0].startswith("batch batch_1 goes on") and "the same command" in said[0]
        assert [state.batch for state in open_batches(store)] == ["batch_1"]
        stub.go_on()
        # Of the replies that come now only some are needed; all are paid for, so all are recorded.
        with batch_client(stub, ledger, store) as client:
            assert len(client.complete(requests(1, 2))) == 2
    assert stub.sizes == [3] and len(ledger.entries) == 3


class CountingLedger(MemoryLedger):
    """Keeps the keys that were to be recorded."""

    def __init__(self):
        super().__init__()
        self.recorded = []

    async def record(self, entry):
        self.recorded.append(entry.key)
        await super().record(entry)


def test_what_a_killed_run_had_recorded_is_not_recorded_again(store):
    live, ledger = MemoryLedger(), CountingLedger()
    with running_batches(stops_at="look") as stub:
        close_while_waiting(stub, batch_client(stub, ledger, store))
        stub.go_on()
        with client_of(live, stub) as client:
            client.complete(requests(1, 2))
        ledger.entries |= live.entries
        with batch_client(stub, ledger, store) as client:
            assert len(client.complete(requests(1, 3))) == 3
    assert stub.sizes == [3] and ledger.recorded == [requests(1, 3)[2].key]


def test_the_budget_of_calls_is_exact(ledger, store):
    with running_batches() as stub:
        for _ in range(2):
            with (
                batch_client(stub, ledger, store, budget=Budget(calls=5)) as client,
                pytest.raises(BudgetReached, match=r"budget\.calls = 5"),
            ):
                client.complete(requests(1, 9))
    assert stub.sizes == [5] and len(ledger.entries) == 5


@pytest.mark.medium
def test_a_budget_of_money_reserves_a_whole_batch_and_waits_for_what_it_really_costs(ledger, store):
    price = Price(output_per_million=1_000_000)  # a token a piece: 64 at most are expected of a call, some 5 come
    meter = BudgetMeter(Budget(money=128))
    with (
        running_batches() as stub,
        batch_client(stub, ledger, store, budget=meter, price=price) as client,
        pytest.raises(BudgetReached, match=r"budget\.money"),
    ):
        client.complete(requests(4, 16))
    assert len(stub.sizes) > 3 and max(stub.sizes) == 2
    assert 128 <= meter.spent().money < 128 + 64
    assert meter.spent().calls == len(ledger.entries) == sum(stub.sizes)


def test_keys_and_headers_go_with_every_request_of_the_protocol(ledger, store, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # this machine's own servers are not behind it
    with running_batches() as stub:
        settings = {"api_key": "sk-of-this-test", "headers": {"X-Gateway-Key": "of-this-test"}}
        with batch_client(stub, ledger, store, **settings) as client:
            client.complete(requests(1, 1))
    assert stub.headers_of_files["Authorization"] == "Bearer sk-of-this-test"
    assert stub.headers_of_files["X-Gateway-Key"] == "of-this-test"
    assert "sk-of-this-test" not in json.dumps([path.decode() for path in stub.files.values()])


def test_large_requests_are_spread_over_files(ledger, store, monkeypatch):
    monkeypatch.setattr(scheduler, "MOST_BYTES", 4000)
    with running_batches() as stub, batch_client(stub, ledger, store) as client:
        outcomes = client.complete(requests(4, 3, text="x" * 800))
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert sum(stub.sizes) == 12 and len(stub.sizes) > 2
    assert max(map(len, stub.files.values())) < 4000 + 2000

"""One call for each key: who makes it, who shares it, and what a cancelled batch leaves for the others."""

from infra.errors import LedgerError, ModelError
from infra.models.protocol import Outcome, Reply
from infra.models.sending.single_flight import SingleFlight
from tests.support.requests import requests


def reply(key: str) -> Outcome:
    return Reply(key, "text", "stop", 1, 1, False, "{}")


def test_the_first_batch_makes_the_call_and_every_batch_gets_its_outcome() -> None:
    flight = SingleFlight()
    first_batch, calls = flight.register(requests(1, 2))
    second_batch, new_calls = flight.register(requests(1, 3))
    assert [call.request.sample_index for call in calls] == [0, 1]
    assert [call.request.sample_index for call in new_calls] == [2]
    for call in calls:
        assert not first_batch.done.is_set()
        flight.finish(call, reply(call.request.key))
    assert first_batch.done.is_set()
    assert not second_batch.done.is_set()
    flight.finish(new_calls[0], reply(new_calls[0].request.key))
    assert second_batch.done.is_set()
    assert list(first_batch.outcomes) == [call.request.key for call in calls]
    assert set(second_batch.outcomes) == {call.request.key for call in calls + new_calls}


def test_a_request_that_stands_twice_in_a_batch_is_one_call() -> None:
    flight = SingleFlight()
    batch, (call,) = flight.register(requests(1, 1) * 2)
    flight.finish(call, reply(call.request.key))
    assert batch.done.is_set()


def test_a_batch_without_requests_is_done() -> None:
    batch, calls = SingleFlight().register([])
    assert batch.done.is_set()
    assert calls == []


def test_a_finished_key_is_a_new_call_later() -> None:
    flight = SingleFlight()
    _, (call,) = flight.register(requests(1, 1))
    flight.finish(call, reply(call.request.key))
    _, (later_call,) = flight.register(requests(1, 1))
    assert later_call is not call
    assert not flight.start(call)
    assert flight.start(later_call)


def test_a_call_ends_once() -> None:
    flight = SingleFlight()
    batch, (call, other_call) = flight.register(requests(1, 2))
    flight.finish(call, reply(call.request.key))
    flight.finish(call, ModelError("late"))
    assert batch.error is None
    assert not batch.done.is_set()
    flight.finish(other_call, reply(other_call.request.key))
    assert batch.done.is_set()


def test_the_first_error_of_a_batch_stays() -> None:
    flight = SingleFlight()
    batch, calls = flight.register(requests(1, 2))
    errors = [ModelError("first"), LedgerError("second")]
    for call, error in zip(calls, errors, strict=True):
        flight.finish(call, error)
    assert batch.error is errors[0]
    assert batch.outcomes == {}
    assert batch.done.is_set()


def test_a_cancelled_batch_is_done_and_its_call_is_not_sent() -> None:
    flight = SingleFlight()
    batch, (call,) = flight.register(requests(1, 1))
    flight.cancel(batch, [call.request.key])
    assert batch.done.is_set()
    assert not flight.start(call)
    _, later_calls = flight.register(requests(1, 1))  # the key is free again
    assert len(later_calls) == 1


def test_a_shared_call_is_made_for_the_batch_that_still_waits_for_it() -> None:
    flight = SingleFlight()
    cancelled_batch, (call,) = flight.register(requests(1, 1))
    waiting_batch, _ = flight.register(requests(1, 1))
    flight.cancel(cancelled_batch, [call.request.key])
    assert cancelled_batch.done.is_set()
    assert not waiting_batch.done.is_set()
    assert call.batches == [waiting_batch]
    assert flight.start(call)
    flight.finish(call, reply(call.request.key))
    assert waiting_batch.done.is_set()
    assert cancelled_batch.outcomes == {}
    assert cancelled_batch.pending == 0


def test_a_call_in_flight_cannot_be_cancelled_until_it_waits_again() -> None:
    flight = SingleFlight()
    batch, (call,) = flight.register(requests(1, 1))
    assert flight.start(call)
    flight.cancel(batch, [call.request.key])
    assert not batch.done.is_set()
    flight.requeue(call)
    flight.cancel(batch, [call.request.key])
    assert batch.done.is_set()


def test_cancelling_twice_or_with_keys_of_no_call_changes_nothing() -> None:
    flight = SingleFlight()
    batch, (call, other_call) = flight.register(requests(1, 2))
    flight.register(requests(1, 1))
    for _ in range(2):
        flight.cancel(batch, [call.request.key, "no such key"])
    assert not batch.done.is_set()
    flight.finish(other_call, reply(other_call.request.key))
    assert batch.done.is_set()

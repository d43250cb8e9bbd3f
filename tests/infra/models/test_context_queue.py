"""The calls that wait, by context: order, room, and what is left after a call has ended."""

from infra.models.sending.context_queue import ContextQueue
from infra.models.sending.single_flight import PendingCall
from tests.support.requests import requests


def calls_of(contexts: int, samples: int) -> list[PendingCall]:
    return [PendingCall(request) for request in requests(contexts, samples)]


def queue_of(calls: list[PendingCall], max_active: int = 2) -> ContextQueue:
    queue = ContextQueue(max_active, lambda affinity: [])
    for call in calls:
        queue.add(call)
    return queue


def ready_contexts(queue: ContextQueue) -> list[str]:
    return [context.affinity for context in queue.ready()]


def test_contexts_are_admitted_in_their_order_while_there_is_room() -> None:
    queue = queue_of(calls_of(3, 2))
    assert ready_contexts(queue) == []
    assert queue.admit()
    assert ready_contexts(queue) == ["context 0", "context 1"]
    assert not queue.admit()


def test_a_context_makes_room_when_its_last_call_has_ended() -> None:
    queue = queue_of(calls_of(3, 2))
    queue.admit()
    context = queue.ready()[0]
    context.queue.clear()
    queue.finish_call(context)
    assert not queue.admit()
    queue.finish_call(context)
    assert queue.admit()
    assert ready_contexts(queue) == ["context 1", "context 2"]


def test_a_context_whose_calls_are_all_taken_is_not_ready_until_one_comes() -> None:
    calls = calls_of(1, 3)
    queue = queue_of(calls[:2])
    queue.admit()
    (context,) = queue.ready()
    context.queue.clear()
    assert queue.ready() == []
    queue.add(calls[2])  # joins its context, which is active
    assert queue.ready() == [context]
    assert list(context.queue) == calls[2:]
    assert context.unfinished == 3


def test_a_later_call_joins_its_context_while_that_waits() -> None:
    calls = calls_of(2, 2)
    queue = queue_of([calls[0], calls[2], calls[1]], max_active=1)
    queue.admit()
    (context,) = queue.ready()
    assert list(context.queue) == calls[:2]


def test_a_call_that_is_put_back_is_the_first_of_its_context() -> None:
    calls = calls_of(1, 2)
    queue = queue_of(calls)
    queue.admit()
    (context,) = queue.ready()
    call = context.queue.popleft()
    context.queue.clear()
    assert queue.ready() == []
    context.queue.append(calls[1])
    queue.put_back(call, context)
    assert queue.ready() == [context]
    assert list(context.queue) == calls


def test_selected_calls_are_taken_out_of_active_and_waiting_contexts() -> None:
    calls = calls_of(3, 2)
    queue = queue_of(calls, max_active=1)
    queue.admit()
    taken = queue.take_all(lambda call: call.request.sample_index == 0)
    assert [call for call, _ in taken] == calls[::2]
    assert [context.affinity for _, context in taken] == ["context 0", "context 1", "context 2"]
    assert [list(context.queue) for _, context in taken] == [[call] for call in calls[1::2]]


def test_a_waiting_context_without_calls_leaves() -> None:
    calls = calls_of(2, 1)
    queue = queue_of(calls, max_active=1)
    queue.admit()
    for _, context in queue.take_all(lambda call: True):
        queue.finish_call(context)
    assert not queue.admit()
    assert queue.ready() == []
    queue.add(calls_of(2, 1)[1])  # a new context, not the one that left
    assert queue.admit()
    assert [context.unfinished for context in queue.ready()] == [1]


def test_a_context_that_comes_again_waits_behind_the_others() -> None:
    calls = calls_of(2, 1)
    queue = queue_of(calls)
    queue.admit()
    context = queue.ready()[0]
    context.queue.clear()
    queue.finish_call(context)
    queue.add(calls[0])
    queue.admit()
    assert ready_contexts(queue) == ["context 1", "context 0"]

"""What an endpoint takes in a minute, learned from its refusals; with a clock of the test."""

import pytest

from infra.models.rates.signals import Remaining
from infra.models.rates.window import RateWindow


class Server:
    """A server with fixed windows of a minute, and a client that sends whenever it may; both share a clock."""

    def __init__(self, limit: int, window: RateWindow, offset: float = 0.0) -> None:
        self.limit = limit
        self.window = window
        self.offset = offset  # of its minutes
        self.taken = self.refused = 0
        self.of_minute: dict[int, int] = {}

    def run(self, now: float, until: float, at_once: int = 8) -> None:
        """Send from `now` until `until`, `at_once` calls every tenth of a second."""
        while now < until:
            calls = 0
            while calls < at_once and self.window.has_room(now):
                self.window.start_call()
                calls += 1
            minute = int((now + self.offset) // 60)
            for _ in range(calls):
                if self.of_minute.get(minute, 0) < self.limit:
                    self.of_minute[minute] = self.of_minute.get(minute, 0) + 1
                    self.taken += 1
                    self.window.take(10)
                else:
                    self.refused += 1
                    self.window.refuse(now, None)
            now += 0.1


def test_the_limit_of_a_minute_is_learned_and_a_later_minute_wastes_little() -> None:
    server = Server(20, RateWindow())
    server.run(600.0, 600 + 20 * 60)
    assert server.taken >= 19 * 20
    assert server.refused <= 8 + 5 * 6  # those sent together with the first, then a few tries for more


def test_minutes_that_begin_at_another_second_are_found() -> None:
    server = Server(20, RateWindow(), offset=37.0)
    server.run(610.0, 610 + 20 * 60)
    assert server.taken >= 17 * 20
    assert server.refused <= 60


def test_a_limit_that_rises_is_used_after_some_minutes() -> None:
    window = RateWindow()
    server = Server(20, window)
    server.run(600.0, 900.0)
    server.limit = 40
    server.run(900.0, 900 + 60 * 60)
    assert window.limit is not None and window.limit >= 38


def test_a_refusal_waits_for_the_next_minute_of_the_clock() -> None:
    window = RateWindow(wall_offset=30.0)  # the monotonic clock's 600 is half past a minute
    assert window.has_room(600.0)
    window.start_call()
    window.take(10)
    assert window.refuse(605.0, None) == 25.5
    assert not window.has_room(630.0) and window.opens_at(630.0) == 630.5
    assert window.has_room(630.5)
    window.start_call()
    assert not window.has_room(631.0)  # one call was taken in that minute, so one is the limit
    assert window.opens_at(631.0) == 690.5


def test_a_wait_that_is_stated_is_kept_to_and_teaches_no_limit() -> None:
    window = RateWindow()
    assert window.refuse(600.0, 1.5) == 1.5
    assert window.refuse(600.1, 1.5) == pytest.approx(1.4)  # sent together with the first: one pause
    assert not window.has_room(601.4) and window.has_room(601.5)
    assert window.limit is None


def test_a_wait_of_no_time_grows_while_nothing_is_taken() -> None:
    window = RateWindow()
    waits = []
    now = 600.0
    for _ in range(6):
        waits.append(window.refuse(now, 0.0))
        now += waits[-1]
    assert waits == sorted(waits) and sum(waits) > 5


def test_an_endpoint_is_stalled_when_it_takes_nothing_for_long() -> None:
    window = RateWindow()
    now = 600.0
    for _ in range(6):
        assert not window.is_stalled(now, 6, 600.0)
        now += window.refuse(now, None)
    window.refuse(now, None)
    assert window.is_stalled(now + 60, 6, 600.0)
    window.take(10)
    assert not window.is_stalled(now + 60, 6, 600.0)


def test_what_is_left_by_the_headers_is_not_exceeded() -> None:
    window = RateWindow()
    window.state([Remaining("requests", 3, 20.0)], 600.0, in_flight=1)
    sent = 0
    while window.has_room(600.0):
        window.start_call()
        sent += 1
    assert sent == 2  # the call in flight may not be counted yet
    assert window.opens_at(600.0) == 620.0
    assert window.has_room(620.0)


def test_tokens_that_are_left_are_counted_in_calls_of_the_usual_size() -> None:
    window = RateWindow()
    window.take(1000)
    window.state([Remaining("tokens", 2500, 20.0)], 600.0, in_flight=0)
    sent = 0
    while window.has_room(600.0):
        window.start_call()
        sent += 1
    assert sent == 2

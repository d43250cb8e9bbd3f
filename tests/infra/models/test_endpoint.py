"""How many calls an endpoint may get, and whether it can be reached."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.models.sending.endpoint import AdaptiveLimit, Endpoint, backoff, rank, retry_after


def endpoint(url="http://a/v1", ceiling=8):
    return Endpoint(url, AdaptiveLimit(ceiling), backoff_s=1.0)


@given(st.integers(1, 100), st.lists(st.sampled_from(["start", "succeed", "halve", "fail"]), max_size=300))
def test_the_limit_stays_between_one_and_the_ceiling_and_the_count_is_right(ceiling, events):
    limit, started = AdaptiveLimit(ceiling), []
    for event in events:
        if event == "start" and limit.has_room():
            started.append(limit.start_call())
        elif event != "start" and started:
            halvings = started.pop(0)
            limit.end_call()
            if event == "succeed":
                limit.increase()
            elif event == "halve":
                before = limit.limit
                limit.halve(halvings)
                assert limit.limit <= before
        assert 1 <= limit.limit <= ceiling
        assert limit.in_flight == len(started)


def test_calls_that_were_sent_together_halve_the_limit_once():
    limit = AdaptiveLimit(64)
    started = [limit.start_call() for _ in range(64)]
    for halvings in started:
        limit.halve(halvings)
    assert limit.limit == 32
    limit.halve(limit.start_call())
    assert limit.limit == 16


def test_a_round_of_successes_raises_the_limit_by_one():
    limit = AdaptiveLimit(64)
    limit.halve(limit.start_call())
    for _ in range(33):
        limit.increase()
    assert limit.limit == 33


def test_an_unreachable_endpoint_gets_no_calls_for_a_while_and_then_one_probe():
    point = endpoint()
    for _ in range(5):
        point.start_call()
    for _ in range(5):  # all five were sent before: one refusal
        point.mark_unreachable(100.0, "refused")
    assert point.unreachable_count == 1
    assert not point.is_open(100.4)
    assert 100.5 <= point.opens_at(100.0) <= 101.0
    assert point.is_open(101.0)
    point.start_call()
    assert not point.is_open(101.0)  # the probe is out
    point.mark_unreachable(101.0, "refused")
    assert 102.0 <= point.opens_at(101.0) <= 103.0  # twice as long
    point.start_call()
    point.mark_reachable()
    assert point.is_open(103.0)
    assert point.unreachable_count == 0


def test_a_pause_stops_the_whole_endpoint_and_never_gets_shorter():
    point = endpoint()
    point.pause(10.0, 5.0)
    point.pause(11.0, 1.0)
    assert not point.has_room(14.9)
    assert point.opens_at(12.0) == 15.0
    assert point.has_room(15.0)
    assert point.opens_at(15.0) is None
    point.pause(15.0, 1e9)
    assert point.has_room(15.0 + 600)


@given(st.lists(st.text("abc", min_size=1), min_size=2, max_size=6, unique=True), st.text())
def test_losing_an_endpoint_moves_no_other_endpoints_contexts(names, affinity):
    points = [endpoint(name) for name in names]
    ranking = rank(points, affinity)
    assert sorted(point.url for point in ranking) == sorted(names)
    without = rank([point for point in points if point is not ranking[0]], affinity)
    assert without == ranking[1:]


def test_contexts_spread_evenly_over_endpoints():
    points = [endpoint(name) for name in "abcd"]
    firsts = Counter(rank(points, f"context-{number}")[0].url for number in range(1000))
    assert set(firsts) == set("abcd")
    assert all(200 < count < 300 for count in firsts.values())


@given(st.integers(1, 10_000), st.floats(0.001, 10))
def test_a_back_off_is_never_negative_or_over_the_cap(attempt, base):
    assert 0 <= backoff(attempt, base) <= min(30, base * 2 ** min(attempt, 40))


NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30"}, 30.0),  # without a zone: UTC
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 -0000"}, 30.0),  # the zone is unknown: UTC
        ({"retry-after": "Thu, 01 Jan 2026 13:00:30 +0100"}, 30.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "-5"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(headers, seconds):
    assert retry_after(headers, NOW) == seconds


def test_no_more_calls_start_than_the_limit_and_it_never_falls_below_one():
    limit = AdaptiveLimit(2)
    limit.halve(limit.start_call())
    limit.end_call()
    assert limit.has_room()
    limit.halve(limit.start_call())
    assert limit.limit == 1
    assert not limit.has_room()


def test_a_call_is_a_probe_while_the_endpoint_is_unreachable():
    point = endpoint(ceiling=8)
    point.limit.halve(point.start_call())
    assert point.limit.limit == 4
    assert not point.probing
    point.mark_unreachable(100.0, "refused")
    assert point.last_error == "refused"
    assert point.is_open(point.unreachable_until)
    for end_probe in (point.end_probe, point.mark_reachable):
        point.start_call()
        assert point.probing
        assert point.opens_at(100.0) is None  # nothing but the probe's end opens it
        end_probe()
        assert not point.probing
    assert point.opens_at(100.0) is None  # it is open


def test_the_ranking_of_a_context_is_the_same_in_every_run():
    points = [endpoint(f"http://{name}/v1") for name in "abc"]
    rankings = ["".join(point.url[7] for point in rank(points, f"context {number}")) for number in range(3)]
    assert rankings == ["cab", "abc", "cab"]


def test_the_longest_back_off_doubles_with_each_attempt_up_to_half_a_minute(monkeypatch):
    monkeypatch.setattr("infra.models.sending.endpoint.random.uniform", lambda low, high: high)
    assert [backoff(attempt, 1.5) for attempt in (1, 2, 3, 5, 6, 10_000)] == [1.5, 3.0, 6.0, 24.0, 30.0, 30.0]

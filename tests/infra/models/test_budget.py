"""The budget's meter."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.canonical import fingerprint
from infra.errors import BudgetReached
from infra.models.budget import BudgetMeter, Spent, call_cost
from infra.recipe import Budget, Price

PRICE = Price(input_per_million=2.0, output_per_million=10.0)


def key(number):
    return fingerprint(number)


def test_money_by_hand():
    assert call_cost(1_000_000, 100_000, PRICE) == pytest.approx(2.0 + 1.0)


@given(st.integers(1, 20), st.lists(st.sampled_from(["reserve", "settle", "release"]), max_size=100))
def test_calls_spent_and_reserved_never_exceed_the_limit(limit, events):
    meter, reserved, number = BudgetMeter(Budget(calls=limit)), 0, 0
    for event in events:
        if event == "reserve":
            reserved += meter.reserve()
        elif reserved:
            reserved -= 1
            if event == "settle":
                meter.settle(key(number), 1, 1, PRICE)
                number += 1
            else:
                meter.release()
        assert meter.spent().calls + reserved <= limit
    assert meter.spent().calls == number


def test_a_reply_counts_once_however_often_it_is_read():
    meter = BudgetMeter(Budget(calls=2))
    for _ in range(3):
        meter.spend(key(1), 100, 10, PRICE)
    assert meter.spent() == Spent(1, 110, pytest.approx(0.0003))
    assert meter.reserve()
    assert not meter.reserve()


@pytest.mark.parametrize(
    ("limits", "name"), [({"calls": 1}, "calls"), ({"tokens": 110}, "tokens"), ({"money": 0.0003}, "money")]
)
def test_each_limit_stops_and_is_named_with_its_remedy(limits, name):
    meter = BudgetMeter(Budget(**limits))
    assert meter.reserve()
    meter.settle(key(1), 100, 10, PRICE)
    assert not meter.reserve()
    error = meter.error()
    assert isinstance(error, BudgetReached)
    assert f"budget.{name} = " in str(error)
    assert f"raise budget.{name} and run again" in str(error)
    assert "1 calls, 110 tokens" in str(error)


def test_no_limit_never_stops():
    meter = BudgetMeter(Budget())
    for number in range(100):
        assert meter.reserve()
        meter.settle(key(number), 10**9, 10**9, PRICE)


def test_threads_share_the_limit():
    meter, granted = BudgetMeter(Budget(calls=500)), []
    threads = [threading.Thread(target=lambda: granted.extend(meter.reserve() for _ in range(200))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 500


def test_a_released_call_can_be_reserved_again():
    meter = BudgetMeter(Budget(calls=2))
    assert meter.reserve()
    assert meter.reserve()
    meter.release()
    assert meter.reserve()
    assert not meter.reserve()


def test_a_settled_call_is_counted_once():
    meter = BudgetMeter(Budget(calls=3))
    assert meter.reserve()
    meter.settle(key(1), 1, 1, PRICE)
    assert meter.reserve()
    assert meter.reserve()
    assert not meter.reserve()


def test_sums_count_once_by_name_and_can_be_taken_back():
    meter = BudgetMeter(Budget(calls=12))
    for _ in range(2):
        meter.spend_sum("shard 0", 10, 1000, 100, PRICE)
    assert meter.spent() == Spent(10, 1100, pytest.approx(0.003))
    assert meter.reserve()
    assert meter.reserve()
    assert not meter.reserve()
    assert "10 calls, 1100 tokens" in str(meter.error())
    meter.forget_sum("shard 0")
    meter.forget_sum("shard 1")
    assert meter.spent() == Spent(0, 0, pytest.approx(0.0))
    assert meter.reserve()

"""A build while its model server fails in one way or another: the bytes of an undisturbed build, and no call lost."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.errors import LongmillError
from tests.support.faulty_stub import FaultyStub
from tests.support.small_build import CALLS, IN_FLIGHT, dataset_files, run_build, small_recipe
from tests.support.stub_server import running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]

TIMEOUT_S = 1.0

# What happens to the requests in turn, and how many replies were sent in vain, so that they are paid for again.
FAULTS = {
    "429 storm": (["429:0.1", "429:0.1", "ok"] * 5, 0),
    "500s": (["500", "ok", "502"] * 5, 0),
    "503 of a starting server": (["503"] * 6, 0),
    "stall": (["ok", "stall"] * 3, 0),
    "reset before the reply": (["ok", "reset"] * 4, 0),
    "reset in mid-body": (["ok", "cut"] * 4, 4),
    "slow trickle": (["ok", "trickle"] * 3, 3),
    "200 with garbage": (["garbage", "ok", "empty_choices"] * 3, 6),
}


@pytest.fixture(scope="module")
def stub() -> Iterator[FaultyStub]:
    with running_stub(make=FaultyStub) as server:
        assert isinstance(server, FaultyStub)
        yield server


@pytest.fixture(scope="module")
def undisturbed(stub: FaultyStub, prefect: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of the dataset that an undisturbed build publishes."""
    recipe = small_recipe(tmp_path_factory.mktemp("undisturbed"), stub.url)
    return dataset_files(recipe.store, run_build(recipe))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_build_goes_on_through_faults_of_its_model_server(
    folder: Path, stub: FaultyStub, undisturbed: dict[str, str], fault: str, figures: Callable[..., None]
) -> None:
    faults, lost_replies = FAULTS[fault]
    recipe = small_recipe(folder, stub.url, execution={"timeout_s": TIMEOUT_S, "attempts": 12})
    before = stub.stats()
    stub.faulted, stub.faults = 0, list(faults)
    start = time.monotonic()
    built = run_build(recipe)
    seconds = time.monotonic() - start
    assert stub.faulted == len([fault for fault in faults if fault != "ok"])
    assert dataset_files(recipe.store, built) == undisturbed
    counts = built["calls"]["sample"]
    assert (counts["made"], counts["failed"]) == (CALLS, 0)
    paid_again = stub.stats()["answered"] - before["answered"] - CALLS
    assert paid_again <= lost_replies
    figures(faults=stub.faulted, paid_again=paid_again, in_flight=IN_FLIGHT, seconds=round(seconds, 1))


def test_a_build_whose_model_server_is_killed_says_so_and_goes_on_when_it_is_back(
    folder: Path, figures: Callable[..., None]
) -> None:
    with running_stub() as stub:
        port = stub.port
        recipe = small_recipe(folder, stub.url, execution={"attempts": 2})
        expected = dataset_files(recipe.store, run_build(recipe))
        other = recipe.model_copy(update={"store": str(folder / "other")})
        stub.options.die_after = stub.requests + CALLS // 2
        start = time.monotonic()
        with pytest.raises(LongmillError) as caught:
            run_build(other)
        seconds = time.monotonic() - start
        paid = stub.stats()["answered"] - CALLS
    message = str(caught.value)
    assert stub.url in message
    with running_stub(port) as again:
        built = run_build(other)
        assert dataset_files(other.store, built) == expected
        answered: dict[str, Any] = again.stats()
    paid_again = paid + answered["answered"] - CALLS
    assert paid_again <= IN_FLIGHT
    figures(paid_again=paid_again, in_flight=IN_FLIGHT, seconds=round(seconds, 1), message=message)

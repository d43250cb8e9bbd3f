"""A build while its object store fails: away for a while, overloaded, cut short, or done without an acknowledgement."""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.errors import StoreError
from infra.store import open_store
from tests.support.proxy import running_proxy
from tests.support.s3 import s3_bucket
from tests.support.s3_faults import Choice, S3Faults, failing_s3
from tests.support.small_build import CALLS, IN_FLIGHT, dataset_files, run_build, small_recipe
from tests.support.stub_server import StubServer, running_stub

pytestmark = pytest.mark.medium

AWAY_S = 2.0  # that the store stays away; its client itself tries for half a second


@dataclass(frozen=True)
class Undisturbed:
    """A stub, and the files of the dataset that an undisturbed build with it publishes in a folder."""

    stub: StubServer
    files: dict[str, str]


@pytest.fixture(scope="module")
def undisturbed(prefect: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    with running_stub() as stub:
        recipe = small_recipe(tmp_path_factory.mktemp("undisturbed"), stub.url)
        yield Undisturbed(stub, dataset_files(recipe.store, run_build(recipe)))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.1)
    with s3_bucket(monkeypatch) as url:
        yield f"{url}/mill"


@pytest.fixture
def faults(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Faults]:
    with failing_s3(os.environ["AWS_ENDPOINT_URL"]) as faults:
        monkeypatch.setenv("AWS_ENDPOINT_URL", faults.url)
        yield faults


def every(count: int, methods: str, *names: str) -> Choice:
    """Faults in turn for every `count`-th request of one of the methods."""
    numbers, turns = itertools.count(1), itertools.cycle(names)

    def choose(method: str, path: str) -> str:
        if method not in methods.split() or ".probe" in path:
            return ""
        return next(turns) if next(numbers) % count == 0 else ""

    return choose


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [every(3, "GET HEAD", "503", "cut"), every(2, "PUT", "lost")], ids=["read errors", "lost acknowledgements"]
)
def test_a_build_goes_on_through_faults_of_its_store(
    folder: Path,
    undisturbed: Undisturbed,
    bucket: str,
    faults: S3Faults,
    fault: Choice,
    figures: Callable[..., None],
) -> None:
    faults.choose = fault
    before = undisturbed.stub.stats()
    start = time.monotonic()
    built = run_build(small_recipe(folder, undisturbed.stub.url, bucket))
    seconds = time.monotonic() - start
    faults.choose = lambda method, path: ""
    assert len(faults.faulted) >= 10
    assert dataset_files(bucket, built) == undisturbed.files
    paid_again = undisturbed.stub.stats()["answered"] - before["answered"] - CALLS
    assert paid_again == 0
    figures(faults=len(faults.faulted), paid_again=paid_again, in_flight=IN_FLIGHT, seconds=round(seconds, 1))


@pytest.mark.slow
def test_a_build_waits_for_a_store_that_comes_back(
    folder: Path,
    undisturbed: Undisturbed,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    figures: Callable[..., None],
) -> None:
    stub = undisturbed.stub
    before = stub.stats()
    times = []
    with running_proxy(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)

        def mend() -> None:
            line.mend()
            times.append(time.monotonic())

        def cut() -> None:
            if stub.requests == before["requests"] + CALLS // 2:
                line.cut()
                threading.Timer(AWAY_S, mend).start()

        stub.witness = cut
        try:
            built = run_build(small_recipe(folder, stub.url, bucket))
        finally:
            stub.witness = lambda: None
        seconds = time.monotonic() - times[0]
        assert dataset_files(bucket, built) == undisturbed.files
    paid_again = stub.stats()["answered"] - before["answered"] - CALLS
    assert paid_again <= IN_FLIGHT
    figures(paid_again=paid_again, in_flight=IN_FLIGHT, away_s=AWAY_S, seconds=round(seconds, 1))


def test_a_clock_that_the_store_refuses_is_named_and_no_key_is_blamed(
    bucket: str, faults: S3Faults, figures: Callable[..., None]
) -> None:
    faults.choose = lambda method, path: "skewed"
    with pytest.raises(StoreError) as caught:
        open_store(bucket).write("a", b"1")
    message = str(caught.value)
    assert "difference between the request time and the current time is too large" in message
    assert "set the clock of this machine" in message
    assert "AWS_ACCESS_KEY_ID" not in message
    figures(message=message.replace(bucket, "s3://BUCKET"))

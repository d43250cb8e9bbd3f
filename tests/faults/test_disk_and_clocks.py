"""A disk that is full, and hosts whose clocks are wrong."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.deployed import prefect_environment
from tests.support.forked_builds import Forks, forked_builds
from tests.support.small_build import CALLS, IN_FLIGHT, dataset_files, run_build, small_recipe
from tests.support.stub_server import running_stub

FAKETIME = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

FILL = """
import sys
from infra.errors import StoreError
from infra.store import open_store
from pathlib import Path

store = open_store(sys.argv[1] + "/mill")
store.write("first", b"whole")
try:
    for number in range(100):
        store.write(f"{number}", bytes(100_000))
except StoreError as error:
    print(error)
whole = [store.size(path) for path in store.list() if path != "first"]
assert set(whole) == {100_000}, whole
assert store.read("first") == b"whole"
left = [path.name for path in Path(sys.argv[1]).rglob(".*.part")]
assert left == [], left
store.delete("0")
store.write("first", b"again")  # the same command goes on when there is space
assert store.read("first") == b"again"
"""


def test_a_full_disk_is_named_leaves_whole_files_and_no_halves(tmp_path: Path, figures: Callable[..., None]) -> None:
    """On a file system of one megabyte, in a mount name space of its own."""
    script = f"mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec {sys.executable} -c '{FILL}' {tmp_path}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    probe = subprocess.run(
        [*command[:-1], f"mount -t tmpfs tmpfs {tmp_path}"], capture_output=True, check=False, timeout=30
    )
    if probe.returncode != 0:
        pytest.skip(f"no file system of its own can be mounted here: {probe.stderr.decode().strip()}")
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert "No space left on device" in ended.stdout
    assert "free some space" in ended.stdout
    figures(message=ended.stdout.strip().replace(str(tmp_path), "STORE"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not FAKETIME, reason="there is no libfaketime (Debian's package faketime)")
def test_a_host_whose_clock_is_days_behind_goes_on_after_one_that_was_days_ahead(
    folder: Path, prefect: None, figures: Callable[..., None]
) -> None:
    def host(clock: str) -> AbstractContextManager[Forks]:
        faked = {"LD_PRELOAD": str(FAKETIME[0]), "FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return forked_builds(prefect_environment() | faked)

    with running_stub() as stub:
        recipe = small_recipe(folder, stub.url)
        expected = dataset_files(recipe.store, run_build(recipe))
        other = recipe.model_copy(update={"store": str(folder / "other")})
        with host("+2d") as ahead:
            assert ahead.run(other, die_at="half plans/*/shards/*.json").was_killed
        with host("-1d") as behind:
            outcome = behind.run(other)
            if "[Errno 22]" in str(outcome.error):  # libfaketime's own fault, of a sleep; it comes now and then
                outcome = behind.run(other)
        assert outcome.built, outcome.error
        assert dataset_files(other.store, outcome.built) == expected
        paid_again = stub.stats()["answered"] - 2 * CALLS
        assert paid_again <= IN_FLIGHT
    figures(paid_again=paid_again, in_flight=IN_FLIGHT, seconds=round(outcome.seconds, 1))

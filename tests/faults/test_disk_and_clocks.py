"""A disk that is full, and hosts whose clocks are wrong."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.deployed import prefect_environment
from tests.support.forked_builds import forked_builds
from tests.support.small_build import CALLS, IN_FLIGHT, dataset_files, small_recipe
from tests.support.stub_server import running_stub

DAY_S = 86_400.0

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
    figures(message=ended.stdout.strip())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_hosts_whose_clocks_are_days_apart_build_one_plan(
    folder: Path, prefect: None, figures: Callable[..., None]
) -> None:
    """The first is two days ahead and is killed; the second, a day behind, begins while it works."""
    with running_stub() as stub, forked_builds(prefect_environment()) as forks:
        recipe = small_recipe(folder, stub.url)
        undisturbed = forks.run(recipe)
        assert undisturbed.built, undisturbed.error
        other = recipe.model_copy(update={"store": str(folder / "other")})
        stub.hold()
        requests = stub.requests
        ahead = forks.start(other, clock_s=2 * DAY_S, die_at="half plans/*/shards/*.json")
        stub.wait_for(requests + IN_FLIGHT, 120)
        behind = forks.start(other, clock_s=-DAY_S)
        stub.release()
        assert forks.outcome(ahead).was_killed
        outcome = forks.outcome(behind)
        assert outcome.built, outcome.error
        assert dataset_files(other.store, outcome.built) == dataset_files(recipe.store, undisturbed.built)
        paid_again = stub.stats()["answered"] - 2 * CALLS
        assert paid_again <= IN_FLIGHT
    figures(paid_again=paid_again, in_flight=IN_FLIGHT, seconds=round(outcome.seconds, 1))

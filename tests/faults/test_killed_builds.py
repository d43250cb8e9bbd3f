"""kill -9 of a build at every kind of step by which something comes into the store: the same bytes in the end."""

from collections.abc import Callable
from pathlib import Path

import pytest

from infra.ledger import Ledger
from infra.store import open_store
from tests.support.deployed import prefect_environment
from tests.support.forked_builds import forked_builds, step_kind
from tests.support.small_build import CALLS, IN_FLIGHT, dataset_files, small_recipe
from tests.support.stub_server import running_stub

# Of these files also the moment after they have their names matters: what is named then is there for all.
PUBLISHING = ("plan.json", "ledger/*.parquet", "shards/*.json", ".part-*.json", "manifest.json", "latest.json")


def matters(kind: str) -> bool:
    return not kind.startswith("named") or kind.endswith(PUBLISHING)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_build_that_is_killed_at_every_step_ends_with_the_same_bytes(
    folder: Path, prefect: None, figures: Callable[..., None]
) -> None:
    with running_stub(latency=0.02) as stub, forked_builds(prefect_environment()) as forks:
        recipe = small_recipe(folder, stub.url)
        undisturbed = forks.run(recipe)
        assert undisturbed.built, undisturbed.error
        expected = dataset_files(recipe.store, undisturbed.built)
        to_die_at = [kind for kind in dict.fromkeys(map(step_kind, undisturbed.steps)) if matters(kind)]
        assert len(to_die_at) >= 20, to_die_at
        deaths, paid_again, slowest, stores = 0, 0, 0.0, 0
        while (
            to_die_at
        ):  # a build goes on in the store of the one that was killed; one that ends makes room for another
            stores += 1
            assert stores < 8, to_die_at
            answered = stub.stats()["answered"]
            store = str(folder / f"store-{stores}")
            deaths_here, outcome = 0, undisturbed
            for kind in [*to_die_at, "none"]:
                outcome = forks.run(recipe.model_copy(update={"store": store}), die_at=kind)
                if not outcome.was_killed:
                    break
                to_die_at.remove(kind)
                deaths_here += 1
            assert outcome.built, outcome.error
            assert deaths_here
            assert dataset_files(store, outcome.built) == expected
            paid_again_here = stub.stats()["answered"] - answered - CALLS
            assert paid_again_here <= IN_FLIGHT * deaths_here
            with Ledger(open_store(store)) as ledger:
                ledger.compact(all=True)
                assert ledger.entries == CALLS
            deaths += deaths_here
            paid_again += paid_again_here
            slowest = max(slowest, outcome.seconds)
    figures(deaths=deaths, paid_again=paid_again, in_flight=IN_FLIGHT, seconds=round(slowest, 1))

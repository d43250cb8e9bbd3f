"""One published dataset of judged answers for all tests, each with a copy; and one thread for tiny matrices."""

import shutil
from pathlib import Path

import pytest

from infra.store import Store, open_store
from tests.support.judged_answers import publish_judged
from tests.support.torch_threads import one_thread

__all__ = ["manifest", "one_thread", "published", "store"]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the store `mill`, and the manifest's path in it."""
    folder = tmp_path_factory.mktemp("judged")
    return folder, publish_judged(folder)


@pytest.fixture
def manifest(published: tuple[Path, str], tmp_path: Path) -> str:
    """The manifest's path in a store of the test's own, `tmp_path`/mill."""
    shutil.copytree(published[0] / "mill", tmp_path / "mill")
    return published[1]


@pytest.fixture
def store(manifest: str, tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "mill"))

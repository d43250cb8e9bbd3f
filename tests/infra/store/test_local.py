"""The store in a folder: what is synced, what is listed, and that no file descriptor is lost."""

import os
import stat
from pathlib import Path

import psutil
import pytest

from infra.errors import StoreError
from infra.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


@pytest.mark.parametrize("method", ["write", "put_if_absent"])
def test_the_whole_file_and_then_its_folder_are_synced(
    store: Store, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int]] = []

    def record(descriptor: int) -> None:
        status = os.fstat(descriptor)
        is_folder = stat.S_ISDIR(status.st_mode)
        synced.append(("folder", 0) if is_folder else ("file", status.st_size))

    monkeypatch.setattr(os, "fsync", record)
    getattr(store, method)("deep/a", b"data")
    assert synced == [("file", 4), ("folder", 0)]


def test_writing_leaves_no_file_descriptor_open(store: Store) -> None:
    store.write("a", b"")
    before = psutil.Process().num_fds()
    for number in range(20):
        store.write("a", b"data")
        store.put_if_absent(f"b{number}", b"data")
    assert psutil.Process().num_fds() < before + 20


def test_only_temporary_files_are_left_out_of_listings(store: Store, tmp_path: Path) -> None:
    for name in (".hidden", "model.part", ".temporary.part", "plain"):
        (tmp_path / name).write_bytes(b"12")
    assert store.sizes() == {".hidden": 2, "model.part": 2, "plain": 2}


def test_whether_a_file_exists_is_a_plain_answer_or_a_fault(store: Store, tmp_path: Path) -> None:
    assert store.put_if_absent("a", b"1") is True
    assert store.put_if_absent("a", b"2") is False
    assert store.exists("a") is True
    assert store.exists("b") is False
    assert store.exists("a/below-a-file") is False
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StoreError, match="loop: cannot read"):
        store.exists("loop")


def test_files_are_moved_into_a_folder_that_exists(store: Store) -> None:
    for name in ("a", "b"):
        store.write(name, name.encode())
        store.move(name, f"folder/{name}")
    assert store.list() == ["folder/a", "folder/b"]

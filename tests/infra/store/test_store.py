"""The store, in a folder and on S3: whole files or none, one winner of many writers, faults that name the place."""

import errno
import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from infra.errors import MissingError, StoreError
from infra.store import Store, open_store, table_bytes
from infra.store.objects import ObjectStore
from tests.support.s3 import s3_bucket, store_url


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with store_url(request.param, tmp_path, monkeypatch) as url:
        yield url


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with s3_bucket(monkeypatch) as url:
        yield ObjectStore("s3", url.removeprefix("s3://") + "/mill")


@pytest.fixture
def bucket(backend: ObjectStore) -> Store:
    return Store(backend)


def test_an_empty_store_lists_nothing_and_says_what_is_missing(store: Store) -> None:
    assert store.list() == store.list("ledger") == []
    assert not store.exists("plans/1/plan.json")
    with pytest.raises(MissingError, match=r"plans/1/plan\.json"):
        store.read("plans/1/plan.json")
    with pytest.raises(MissingError):
        store.size("plans/1/plan.json")
    store.delete("plans/1/plan.json")


@pytest.mark.medium
def test_files_are_written_listed_moved_and_removed(store: Store) -> None:
    for path in ("b/2", "b/1", "a", "b/c/3", "b-side/4"):
        store.write(path, path.encode())
    store.write("a", b"replaced")
    assert store.list() == ["a", "b-side/4", "b/1", "b/2", "b/c/3"]
    assert store.list("b") == store.list("b/") == ["b/1", "b/2", "b/c/3"]
    assert store.sizes("b") == {"b/1": 3, "b/2": 3, "b/c/3": 5}
    assert (store.read("a"), store.size("a"), store.exists("a"), store.exists("b")) == (b"replaced", 8, True, False)
    store.move("b/1", "deep/er/1")
    store.delete("b/2", "b/c/3", "never-there")
    assert store.list() == ["a", "b-side/4", "deep/er/1"]
    assert store.read("deep/er/1") == b"b/1"


def test_a_folder_lists_its_own_files_and_folders_alone(store: Store) -> None:
    assert store.children() == store.children("plans") == ([], [])
    for path in ("b/2", "b/1", "a", "b/c/3", "b/c/d/4", "b-side/4"):
        store.write(path, b"")
    assert store.children() == (["a"], ["b", "b-side"])
    assert store.children("b") == (["b/1", "b/2"], ["b/c"])
    assert store.children("b/") == store.children("b")


def test_a_file_has_the_time_of_its_last_writing(store: Store) -> None:
    store.write("a", b"1")
    written = store.written_at("a")
    assert abs((datetime.now(UTC) - written).total_seconds()) < 3600
    with pytest.raises(MissingError):
        store.written_at("b")


@pytest.mark.medium
def test_small_files_are_read_in_order_and_a_missing_one_is_none(store: Store) -> None:
    paths = [f"small/{number}" for number in range(80)]
    for path in paths[:70]:
        store.write(path, path.encode())
    contents = list(store.read_several([*paths[40:], *paths[:40]]))
    assert contents == [path.encode() for path in paths[40:70]] + [None] * 10 + [path.encode() for path in paths[:40]]
    assert list(store.read_several([])) == []
    assert next(store.read_several(paths)) == b"small/0"  # the rest is not waited for


@pytest.mark.medium
def test_files_get_a_second_place_and_both_stay(store: Store) -> None:
    targets = {f"rows/{number}": f"dataset/{number % 2}/{number}" for number in range(6)}
    for path in targets:
        store.write(path, path.encode())
    for _ in range(2):  # the second time all are there
        store.copy(targets)
        assert [store.read(target) for target in targets.values()] == [path.encode() for path in targets]
    store.delete(*targets)
    assert store.list() == sorted(targets.values())
    with pytest.raises(MissingError):
        store.copy({"rows/0": "dataset/again"})
    store.copy({})


def test_without_hard_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path))
    store.write("rows/1", b"one")
    monkeypatch.setattr(os, "link", _no_links)
    store.copy({"rows/1": "dataset/1"})
    assert store.read("dataset/1") == b"one"
    store.write("rows/1", b"two")
    assert store.read("dataset/1") == b"one"


def _no_links(source: Path, target: Path) -> None:
    raise OSError(errno.EPERM, "no hard links here")


@pytest.mark.medium
def test_another_store_object_sees_writes_at_once(url: str) -> None:
    one, two = open_store(url), open_store(url)
    assert two.list() == [] and not two.exists("a")
    one.write("a", b"1")
    assert two.list() == ["a"] and two.exists("a")
    one.write("a", b"22")
    assert two.read("a") == b"22" and two.size("a") == 2


def test_put_if_absent_keeps_the_first(store: Store) -> None:
    assert store.put_if_absent("m/manifest.json", b"first")
    assert not store.put_if_absent("m/manifest.json", b"second")
    assert store.read("m/manifest.json") == b"first"
    assert store.list() == ["m/manifest.json"]


@pytest.mark.medium
def test_of_many_threads_exactly_one_puts(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        wins = list(pool.map(lambda number: store.put_if_absent("m", str(number).encode()), range(16)))
    assert wins.count(True) == 1
    assert store.read("m") == str(wins.index(True)).encode()


@pytest.mark.parametrize("url", ["file", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)
def test_of_many_processes_exactly_one_puts(url: str) -> None:
    script = (
        "import sys; from infra.store import open_store; store = open_store(sys.argv[1]); store.list();"
        "print('ready', flush=True); sys.stdin.readline();"
        "print(store.put_if_absent('m', sys.argv[2].encode()), flush=True)"
    )
    commands = [[sys.executable, "-c", script, url, str(number)] for number in range(4)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for command in commands
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    wins = [child.communicate()[0].strip() for child in children]
    assert sorted(wins) == ["False", "False", "False", "True"]
    assert open_store(url).read("m") == str(wins.index("True")).encode()


def test_a_disk_that_fills_up_leaves_the_old_file_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path))
    store.write("a", b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"/a: cannot write \(No space left on device\); free some space"):
        store.write("a", b"new")
    with pytest.raises(StoreError, match="No space left"):
        store.put_if_absent("b", b"new")
    assert (store.read("a"), store.list()) == (b"old", ["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_temporary_file_of_a_killed_write_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path))
    monkeypatch.setattr(Path, "replace", lambda self, target: None)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    store.write("a", b"half")
    assert len(list(tmp_path.iterdir())) == 1
    assert store.list() == []


def test_a_folder_that_may_not_be_read_is_a_fault_and_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path))
    store.write("ledger/a", b"")

    def refused(folder: Path) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(StoreError, match=r"ledger: cannot list \(Permission denied\); check the permissions"):
        store.list("ledger")


def test_without_hard_links_the_first_still_stays_and_a_warning_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    store = open_store(str(tmp_path))
    assert [store.put_if_absent(name, name.encode()) for name in ("a", "a", "b")] == [True, False, True]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize(
    "path", ["../a", "a/../../b", "/etc/passwd", "a//b", "a/./b", "a\\b", "a\nb", "a\x00b", "a/", ".", ".."]
)
def test_a_path_that_could_leave_the_store_is_refused(tmp_path: Path, path: str) -> None:
    store = open_store(str(tmp_path))
    for use in (store.read, store.exists, store.size, store.local_path, store.place, store.delete):
        with pytest.raises(StoreError, match="not a path in a store"):
            use(path)
    for put in (store.write, store.put_if_absent):
        with pytest.raises(StoreError, match="not a path in a store"):
            put(path, b"")
    with pytest.raises(StoreError, match="not a path in a store"):
        store.move("a", path)


def test_an_object_whose_name_climbs_out_is_not_fetched(bucket: Store, backend: ObjectStore, tmp_path: Path) -> None:
    backend.filesystem.pipe_file(backend.key("models") + "/../../evil", b"")
    with pytest.raises(StoreError, match="not a path in a store"):
        bucket.download_folder("models", tmp_path / "deep" / "here")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("url", ["", " ", "s3://", "s3:///", "s3://b/../c", "s3://b/p?versionId=1", "nosuch://b/p"])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(StoreError):
        open_store(url)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(StoreError, match="AWS_SECRET_ACCESS_KEY in the environment") as caught:
        open_store("s3://someone:geheim@bucket/prefix")
    assert "geheim" not in str(caught.value)


def test_locations_are_paths_and_urls_that_a_person_can_paste(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("mill", f"file://{tmp_path}/mill", str(tmp_path / "mill")):
        store = open_store(url)
        assert store.url == f"file://{tmp_path}/mill"
        assert store.place("a/b") == str(tmp_path / "mill/a/b") == str(store.local_path("a/b"))
    distant = open_store("s3://bucket/some/mill/")
    assert (distant.url, distant.place("a/b")) == ("s3://bucket/some/mill", "s3://bucket/some/mill/a/b")
    assert distant.local_path("a") is None


def test_a_bucket_that_is_not_there_is_a_fault_and_not_empty(bucket: Store) -> None:
    absent = open_store("s3://no-such-bucket-here/mill")
    uses = [
        lambda: absent.list("ledger"),
        lambda: absent.read("a"),
        lambda: absent.exists("a"),
        lambda: absent.write("a", b""),
        lambda: absent.put_if_absent("a", b""),
    ]
    for use in uses:
        with pytest.raises(StoreError, match=r"the bucket does not exist.*make the bucket") as caught:
            use()
        assert not isinstance(caught.value, MissingError)


def test_a_network_fault_names_place_and_remedy_and_no_secret(
    bucket: Store, backend: ObjectStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable(*arguments: Any, **options: Any) -> None:
        raise EndpointConnectionError(endpoint_url="http://me:geheim@127.0.0.1:1/x")

    monkeypatch.setattr(backend.filesystem, "find", unreachable)
    with caplog.at_level(logging.DEBUG, logger="infra"), pytest.raises(StoreError) as caught:
        bucket.list("ledger")
    message = str(caught.value)
    assert "s3://" in message and "check the network and AWS_ENDPOINT_URL" in message
    assert "geheim" not in message + caplog.text and "kept-out-of-every-log" not in message + caplog.text


def test_a_server_that_ignores_conditions_is_found_out_once(
    bucket: Store, backend: ObjectStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pipe_file = backend.filesystem.pipe_file
    monkeypatch.setattr(
        backend.filesystem, "pipe_file", lambda path, data, mode="overwrite", **options: pipe_file(path, data)
    )
    assert [bucket.put_if_absent(name, b"") for name in ("a", "a", "b")] == [True, False, True]
    assert bucket.list() == ["a", "b"]
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("infra")]
    assert len(warnings) == 1 and "ignores conditional writes" in warnings[0]


def _refusal(status: int) -> OSError:
    """What s3fs makes of a refused condition that does not name the condition, as Ceph answers."""
    error = OSError(errno.EINVAL, "refused")
    answer: Any = {"Error": {"Code": "PreconditionFailed"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error.__cause__ = ClientError(answer, "PutObject")
    return error


@pytest.mark.medium
def test_a_condition_refused_with_another_error_is_lost(
    bucket: Store, backend: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe_file = backend.filesystem.pipe_file

    def like_ceph(path: str, data: bytes, **options: Any) -> None:
        lost = False
        try:
            pipe_file(path, data, **options)
        except FileExistsError:
            lost = True
        if lost:
            raise _refusal(412)

    monkeypatch.setattr(backend.filesystem, "pipe_file", like_ceph)
    assert [bucket.put_if_absent("a", data) for data in (b"1", b"2")] == [True, False]
    assert bucket.read("a") == b"1"


def test_a_writer_whose_response_was_lost_still_wins(
    bucket: Store, backend: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bucket.put_if_absent("probed", b"")
    pipe_file = backend.filesystem.pipe_file

    def response_lost(path: str, data: bytes, **options: Any) -> None:
        pipe_file(path, data, **options)
        pipe_file(path, data, **options)  # the retry

    monkeypatch.setattr(backend.filesystem, "pipe_file", response_lost)
    assert [bucket.put_if_absent("a", data) for data in (b"1", b"2")] == [True, False]
    assert bucket.read("a") == b"1"


def test_a_conflict_between_writers_is_tried_again(
    bucket: Store, backend: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bucket.put_if_absent("probed", b"")
    pipe_file = backend.filesystem.pipe_file
    conflicts = [_refusal(409), _refusal(409)]

    def busy(path: str, data: bytes, **options: Any) -> None:
        if conflicts:
            raise conflicts.pop()
        pipe_file(path, data, **options)

    monkeypatch.setattr(backend.filesystem, "pipe_file", busy)
    assert bucket.put_if_absent("a", b"1")
    assert not conflicts


def test_folders_are_sent_and_fetched(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "adapter"
    (source / "deep").mkdir(parents=True)
    (source / "weights").write_bytes(b"w" * 1000)
    (source / "deep" / "config.json").write_bytes(b"{}")
    assert store.upload_folder(source, "models/x/1") == ["models/x/1/deep/config.json", "models/x/1/weights"]
    store.download_folder("models/x/1", tmp_path / "back")
    assert (tmp_path / "back/weights").read_bytes() == b"w" * 1000
    assert (tmp_path / "back/deep/config.json").read_bytes() == b"{}"
    with pytest.raises(MissingError, match="models/y"):
        store.download_folder("models/y", tmp_path / "none")


TABLE = pa.table({"id": ["a", "b", "c"], "text": ["long " * 50] * 3, "score": [0.5, None, 1.0]})


def test_tables_come_back_and_are_named_by_their_bytes(store: Store) -> None:
    digest = store.write_table("t.parquet", TABLE)
    assert digest == hashlib.sha256(store.read("t.parquet")).hexdigest()
    assert store.read_table("t.parquet").equals(TABLE)
    assert store.read_table("t.parquet", ["score", "id"]).to_pydict() == TABLE.select(["score", "id"]).to_pydict()


def test_equal_tables_have_equal_bytes_however_they_were_put_together() -> None:
    table = pa.table({"text": [f"{number} {number * number} " * 100 for number in range(3000)]})
    pieces = pa.concat_tables([table.slice(0, 777), table.slice(777, 1), table.slice(778)])
    assert pieces.column(0).num_chunks == 3
    for dictionary in (True, []):
        assert table_bytes(pieces, dictionary=dictionary) == table_bytes(table, dictionary=dictionary)
    assert table_bytes(table, rows_per_group=1000) != table_bytes(table)


@pytest.mark.medium
def test_a_text_that_repeats_is_stored_once() -> None:
    text = "".join(chr(97 + (number * number) % 26) + str(number) for number in range(300_000))
    once, often = (len(table_bytes(pa.table({"text": [text] * count}))) for count in (1, 20))
    assert often < 1.05 * once


@pytest.mark.parametrize("columns", [None, ["id"]])
def test_a_table_that_is_cut_short_is_named(store: Store, columns: list[str] | None) -> None:
    store.write("t.parquet", table_bytes(TABLE)[:-20])
    with pytest.raises(StoreError, match=r"t\.parquet"):
        store.read_table("t.parquet", columns)

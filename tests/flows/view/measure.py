"""Time and memory of the viewer over a million generated pairs: `python -m tests.flows.view.measure [SERVER] [first]`.

With "first" of the first pages alone. Without SERVER: this machine's disk, in 15,625 files of 64 pairs (the default
shard); "s3" for moto's S3 server in this process; "ceph" for Ceph's S3 gateway in processes of its own; "far" for the
same with 40 ms more for each request. A server has 1,954 files of 512 pairs, because it holds its objects in memory. A
few different files stand for all of them.
"""

import contextlib
import json
import logging
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from infra.store import open_store
from tasks.records.dataset import PAIRS, published_schema
from tasks.records.manifest import ManifestFile
from tasks.shard_part import write_table
from tasks.viewing.index import warm_up
from tasks.viewing.listing import Query
from tests.support.proxy import running_proxy
from tests.support.viewed import pair_row, write_manifest

PAIR_COUNT = 1_000_000
DIFFERENT = 8  # files
_ANSWER_CHARACTERS = 1000
_FAR_S = 0.04  # for a request to a bucket in another region
VERSION = "0123456789abcdef"


def main(server: str, only_first: bool) -> None:
    """Write the dataset, ask for pages, print JSON. `server`: "s3", "ceph", "far", or "" for this machine's disk."""
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        place, rows = folder, 64
        if server:
            from tests.support.s3 import real_s3, s3_bucket

            logging.getLogger("werkzeug").setLevel(logging.ERROR)
            settings = None if server == "s3" else stack.enter_context(real_s3(Path(folder) / "ceph"))
            place, rows = stack.enter_context(s3_bucket(patch, settings)), 512
        _written(place, rows)
        if server == "far":
            near = urlsplit(os.environ["AWS_ENDPOINT_URL"])
            patch.setenv("AWS_ENDPOINT_URL", stack.enter_context(running_proxy(near.port or 80, _FAR_S)).url)
        print(json.dumps(_measured(place, rows, only_first), indent=1))


def _written(place: str, rows: int) -> None:
    """Write the dataset in a process of its own, so that what writing takes does not count."""
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(place, rows))
    writer.start()
    writer.join()
    assert writer.exitcode == 0


def _measured(place: str, rows: int, only_first: bool) -> dict[str, Any]:
    warm_up()
    before, _ = _memory()
    from flows.view.app import view_app
    from tasks.viewing.library import Library

    base = f"/datasets/{VERSION}/pairs"
    seconds: dict[str, float] = {}
    processor: dict[str, float] = {}  # of this process, with what the index does meanwhile
    library = Library([place])

    def timed(name: str, path: str, answer: str = "") -> None:
        begin, begin_processor = time.perf_counter(), time.process_time()
        page = client.get(path)
        processor.setdefault(name, round(time.process_time() - begin_processor, 3))
        seconds[name] = round(time.perf_counter() - begin, 3)
        assert page.status_code == 200 and answer in page.text, page.text[:2000]

    with TestClient(view_app(library, "t"), base_url="http://127.0.0.1:1") as client:
        client.get("/view.js?token=t")
        timed("first list of pairs, the manifest not read before", base, f"{PAIR_COUNT:,} pairs")
        timed("the pair of its first row", f"/datasets/{VERSION}/pair?n=0")
        timed("a filter while the index grows", f"{base}?margin_min=5&sort=margin", "so far")
        if only_first:
            return {"seconds": seconds, "processor seconds": processor, "load": os.getloadavg()}
        begin = time.perf_counter()
        index = library.dataset(VERSION).index("pairs")
        index.table(index.rows, 3600)
        seconds["then until all pairs are in the index"] = round(time.perf_counter() - begin, 3)
        timed("a sort over all", f"{base}?sort=margin", f"{PAIR_COUNT:,} of {PAIR_COUNT:,}")
        timed("the same, in the middle", f"{base}?sort=margin&page={PAIR_COUNT // 100}")
        timed("a search over all", f"{base}?q=bridge+77")
        timed("a filter by dimension and kind over all", f"{base}?dimension=faithfulness&dimension_min=6&kind=who")
        timed("the last page", f"{base}?page={PAIR_COUNT // 50}")
        timed("the first rows with a text in an answer", f"{base}?answer=word+77", "so far")
        begin, begin_processor = time.perf_counter(), time.process_time()
        library.dataset(VERSION).table("pairs", Query(answer="word 77"), PAIR_COUNT, 3600)
        seconds["then until all answers are searched"] = round(time.perf_counter() - begin, 3)
        processor["then until all answers are searched"] = round(time.process_time() - begin_processor, 3)
        timed("the same search again", f"{base}?answer=word+77")
        own, mapped = _memory()
    return {
        "pairs": PAIR_COUNT,
        "files": -(-PAIR_COUNT // rows),
        "seconds": seconds,
        "processor seconds": processor,
        "own memory, MB": own,
        "own memory before, MB": before,
        "in use of mapped files, MB": mapped,
        "load": os.getloadavg(),
    }


def _memory() -> tuple[int, int]:
    """Megabytes of this process's own memory, and of the files that it has mapped (which the system may drop)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, mapped = (round(int(status[name].split()[0]) / 1024) for name in ("RssAnon", "RssFile"))
    return own, mapped


def _write(place: str, rows: int) -> None:
    """Files with a context of some 20,000 characters for every eight pairs, copied until there are enough pairs."""
    store = open_store(place)
    folder = f"datasets/lr/{VERSION}"
    different: list[ManifestFile] = []
    for number in range(DIFFERENT):
        pairs = []
        for row in range(number * rows, (number + 1) * rows):
            pair = pair_row(row)
            pair["prompt"][0]["content"] += f" context {row // 8} " * 1200
            words = random.Random(row).choices(range(100_000), k=_ANSWER_CHARACTERS // 11)
            for side in ("chosen", "rejected"):
                pair[side][0]["content"] += "".join(f" word {word:05d}" for word in words)
            pairs.append(pair)
        table = pa.Table.from_pylist(pairs, schema=published_schema(PAIRS, False))
        different.append(write_table(store, folder, f"data/train/{number:06d}", table, "pairs", "train"))
    files = []
    targets: dict[str, dict[str, str]] = {}
    for number in range(-(-PAIR_COUNT // rows)):
        file = dict(different[number % DIFFERENT])
        source = f"{folder}/{file['path']}"
        if number >= DIFFERENT:
            file["path"] = f"data/train/{number:06d}-{file['sha256'][:16]}.parquet"
            targets.setdefault(str(number // DIFFERENT), {})[source] = f"{folder}/{file['path']}"
        files.append(file)
    last = PAIR_COUNT % rows
    if last:  # so that the numbers are round
        pairs = [pair_row(row) for row in range(last)]
        table = pa.Table.from_pylist(pairs, schema=published_schema(PAIRS, False))
        files[-1] = dict(write_table(store, folder, "data/train/999999", table, "pairs", "train"))
    for of_round in targets.values():
        store.copy(of_round)
    write_manifest(store, folder, files, PAIR_COUNT)  # type: ignore[arg-type]


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[3])
    main(next((server for server in ("s3", "ceph", "far") if server in sys.argv), ""), "first" in sys.argv)

"""Documents in a bucket, and the plan of the questions about them there too, by an S3 server (moto)."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from infra.store import open_store
from tasks.asking.planning import make_asking_plan
from tasks.asking.recipes import asking_half
from tasks.asking.writing import IntendedQuestion
from tasks.records.plan import load_plan, load_shard
from tests.support.asking import PIER, asking_recipe
from tests.support.s3 import s3_bucket

pytestmark = pytest.mark.medium

CHAT = [
    {"role": role, "content": f"{text} in the matter of the Tessin pier."}
    for role, text in (("user", "What was decided"), ("assistant", "That it opens on 4 May"), ("user", "Good, then so"))
]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_bucket(monkeypatch) as url:
        yield url


def put(url: str, data: bytes) -> None:
    with fsspec.open(url, "wb") as file:
        file.write(data)


def test_documents_of_a_bucket_are_asked_about_as_those_of_a_folder(bucket: str, tmp_path: Path) -> None:
    files = {
        "a/pier.txt": PIER.encode(),
        "b/page.html": f"<html><title>Page</title><body><p>{PIER[:200]}</p></body></html>".encode(),
        "c/chats.jsonl.gz": gzip.compress((json.dumps({"id": "c1", "messages": CHAT}) + "\n").encode(), mtime=0),
        "d/broken.pdf": b"%PDF-1.4 nothing",
    }
    plans = []
    for source, store in ((f"{bucket}/documents", f"{bucket}/mill"), (str(tmp_path / "d"), str(tmp_path / "mill"))):
        for name, data in files.items():
            target = f"{source}/{name}"
            if "://" not in source:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
            put(target, data)
        documents = {"source": source, "min_characters": 50, "near_duplicates": None}
        asking = {"kinds": {"single_fact": 1, "decision": 1}, "per_document": 2, "min_span_tokens": 16}
        recipe = asking_half(asking_recipe(tmp_path, documents=documents, asking=asking, store=store))
        plans.append(make_asking_plan(recipe, open_store(store)))
        assert load_plan(open_store(store), plans[-1].plan_id) == plans[-1]
    in_bucket, in_folder = plans
    assert in_bucket.plan_id == in_folder.plan_id
    assert in_bucket.drop_counts == {"unreadable": 1}
    examples, contexts = load_shard(open_store(f"{bucket}/mill"), in_bucket, 0)
    assert len(examples) == 6
    turns = [IntendedQuestion.of(example, contexts[example.context_id]).places[0].turns for example in examples]
    assert sorted(map(len, turns)) == [0, 0, 0, 0, 3, 3]

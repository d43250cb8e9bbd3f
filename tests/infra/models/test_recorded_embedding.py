"""Vectors of a local model in the ledger: made once, by text and settings, and equal to the last bit."""

from pathlib import Path

import numpy as np
import pytest

from infra.models.embedding.embedder import Embedder
from infra.models.embedding.recorded import recorded_embedder
from infra.recipe import Embedding
from tests.support.embedders import letters
from tests.support.memory_ledger import MemoryLedger

TEXTS = ["aab", "b", "aab", "  "]


class Model:
    """A model that counts its loads and the texts it has embedded."""

    def __init__(self) -> None:
        self.loads = 0
        self.texts: list[str] = []

    def __call__(self) -> Embedder:
        self.loads += 1
        return Embedder(self.encode)

    def encode(self, texts: list[str]) -> np.ndarray:
        self.texts += texts
        return letters(texts)


def test_a_text_is_embedded_once_and_the_model_is_loaded_for_new_texts_alone() -> None:
    ledger, model = MemoryLedger(), Model()
    first = recorded_embedder(Embedding(), ledger, model).embed(TEXTS)
    assert sorted(model.texts) == ["aab", "b"]
    again = Model()
    embedder = recorded_embedder(Embedding(), ledger, again)
    assert np.array_equal(embedder.embed(TEXTS[::-1]), first[::-1])
    assert again.loads == 0
    embedder.embed(["b", "new"])
    assert again.texts == ["new"]


@pytest.mark.parametrize(
    "change", [{"revision": "2"}, {"max_tokens": 64}, {"prompt": "query: "}, {"dtype": "bfloat16"}]
)
def test_other_settings_have_vectors_of_their_own(change: dict[str, object]) -> None:
    ledger, model = MemoryLedger(), Model()
    recorded_embedder(Embedding(), ledger, model).embed(["a"])
    recorded_embedder(Embedding.model_validate(change), ledger, model).embed(["a"])
    assert model.texts == ["a", "a"]


def test_another_model_in_the_same_folder_has_vectors_of_its_own(tmp_path: Path) -> None:
    ledger, model = MemoryLedger(), Model()
    for content in ("old", "newer"):
        (tmp_path / "model.safetensors").write_text(content)
        recorded_embedder(Embedding(model=str(tmp_path)), ledger, model).embed(["a"])
    assert model.texts == ["a", "a"]


def test_the_vectors_of_an_endpoint_are_recorded_by_itself() -> None:
    ledger, model = MemoryLedger(), Model()
    settings = Embedding(model="m", endpoint="http://127.0.0.1:9/v1")
    assert recorded_embedder(settings, ledger, model).encode == model.encode
    assert not ledger.entries

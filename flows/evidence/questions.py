"""The questions of the evidence: many small worlds with ready contexts; no world or name is in two of the files.

    OUT/questions/seed-0/train.jsonl      questions to train on, contexts of the shorter length
    OUT/questions/seed-0/held-out.jsonl   questions to measure on, contexts of both lengths in turn
    OUT/questions/seed-0/short.jsonl      questions to measure on that one passage answers, with that passage alone

There are only a few questions about a world, so that a model cannot answer one from training: it has to read the
context. Rows are in the factory's input format. A row has its supporting documents and, as distractors, other
documents of the same world up to the length.
"""

import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.cli.demo import HOPS, PEOPLE
from infra.models.tokens import Tokenizer
from tasks.microworld.questions import SHARES_BY_HOPS, Question, make_questions
from tasks.microworld.words import Split
from tasks.microworld.world import WorldDocument, make_world, write_documents
from tasks.planning.passages import passage_tokens
from tasks.records.example import Document

TRAIN, HELD_OUT, SHORT = "train", "held-out", "short"
_QUESTIONS_PER_WORLD = 8
_SPLITS: dict[str, Split] = {TRAIN: "train", HELD_OUT: "test", SHORT: "test"}


def write_questions(
    folder: Path, seed: int, train: int, held_out: int, lengths: Sequence[int], tokenizer: Tokenizer
) -> None:
    """Write the three files of a seed unless they are there; the same arguments give the same bytes.

    `train` and `held_out` are numbers of questions. `lengths` are the contexts' lengths in tokens: training uses the
    first, measuring all in turn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sets: dict[str, tuple[int, Sequence[int]]] = {
        TRAIN: (train, lengths[:1]),
        HELD_OUT: (held_out, lengths),
        SHORT: (held_out, ()),
    }
    for name, (count, set_lengths) in sets.items():
        write_rows(folder / f"{name}.jsonl", itertools.islice(_rows(name, seed, set_lengths, tokenizer), count))


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON Lines, unless the file holds them already."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _rows(name: str, seed: int, lengths: Sequence[int], tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """Rows without end, world after world. Without lengths: questions that one passage answers, with that passage."""
    index = 0
    for number in itertools.count():
        world_seed = f"evidence:{name}:{seed}:{number}"
        world = make_world(world_seed, PEOPLE, _SPLITS[name])
        docs = write_documents(world)
        rng = random.Random(world_seed)
        sizes = passage_tokens([Document(doc.title, doc.text) for doc in docs], tokenizer) if lengths else []
        for question in make_questions(world, docs, world_seed, _QUESTIONS_PER_WORLD, SHARES_BY_HOPS[HOPS]):
            supports: Sequence[int] = question.supports
            distractors: Sequence[int] = ()
            if lengths:
                distractors = _distractors(question, sizes, lengths[index % len(lengths)], rng)
            else:
                passage = _whole_answer(question, docs)
                if passage is None:
                    continue
                supports = (passage,)
            yield _row(f"{name}-{seed}-{index:06d}", question, supports, distractors, docs)
            index += 1


def _distractors(question: Question, sizes: Sequence[int], length: int, rng: random.Random) -> list[int]:
    """Documents without any of the question's facts, as many as the length has room for, drawn at random."""
    room = length - sum(sizes[index] for index in question.supports)
    distractors = []
    for index in rng.sample(range(len(sizes)), len(sizes)):
        if index not in question.supports and sizes[index] <= room:
            distractors.append(index)
            room -= sizes[index]
    return distractors


def _whole_answer(question: Question, docs: Sequence[WorldDocument]) -> int | None:
    """The index of the first document that states every fact of the answer; None when no single one does."""
    for index in question.supports:
        if set(question.facts) <= set(docs[index].facts):
            return index
    return None


def _row(
    example_id: str,
    question: Question,
    supports: Iterable[int],
    distractors: Iterable[int],
    docs: Sequence[WorldDocument],
) -> dict[str, Any]:
    return {
        "id": example_id,
        "question": question.question,
        "answers": list(question.answers),
        "kind": question.kind,
        "language": "en",
        "documents": _document_rows(docs, supports),
        "distractors": _document_rows(docs, distractors),
    }


def _document_rows(docs: Sequence[WorldDocument], indices: Iterable[int]) -> list[dict[str, str]]:
    rows = []
    for index in indices:
        rows.append({"title": docs[index].title, "text": docs[index].text})
    return rows

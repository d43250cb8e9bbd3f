"""The questions of the evidence: many small worlds, contexts ready made; no world or name is trained and measured on.

    OUT/questions/seed-0/train.jsonl      questions to train on, contexts of the shorter length
    OUT/questions/seed-0/held-out.jsonl   questions to measure on, contexts of both lengths in turn
    OUT/questions/seed-0/short.jsonl      questions to measure on that one passage answers, with that passage alone

Every world is asked a few questions, so that nothing but reading the context answers one. Rows are in the factory's
input format; a row holds its supporting documents and, as distractors, documents of the same world up to the length.
"""

import itertools
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flows.cli.demo import HOPS, PEOPLE
from infra.models.tokens import Tokenizer
from tasks.microworld.questions import SHARES_BY_HOPS, Question, make_questions
from tasks.microworld.words import Split
from tasks.microworld.world import Document as Passage
from tasks.microworld.world import documents, make_world
from tasks.planning.passages import passage_tokens
from tasks.records.example import Document

TRAIN, HELD_OUT, SHORT = "train", "held-out", "short"
_OF_A_WORLD = 8  # questions
_SPLITS: dict[str, Split] = {TRAIN: "train", HELD_OUT: "test", SHORT: "test"}


def write_questions(
    folder: Path, seed: int, train: int, held_out: int, lengths: Sequence[int], tokens: Tokenizer
) -> None:
    """Write the three files of a seed unless they are there; the same arguments give the same bytes.

    `lengths` are the contexts' lengths in tokens: training takes the first, measuring all in turn.
    """
    sets = {TRAIN: (train, lengths[:1]), HELD_OUT: (held_out, lengths), SHORT: (held_out, ())}
    folder.mkdir(parents=True, exist_ok=True)
    for name, (count, of_set) in sets.items():
        path = folder / f"{name}.jsonl"
        rows = itertools.islice(_rows(name, seed, of_set, tokens), count)
        text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _rows(name: str, seed: int, lengths: Sequence[int], tokens: Tokenizer) -> Iterator[dict[str, Any]]:
    """Rows without end, world after world."""
    place = itertools.count()
    for number in itertools.count():
        named = f"evidence:{name}:{seed}:{number}"
        world = make_world(named, PEOPLE, _SPLITS[name])
        docs = documents(world)
        rng = random.Random(named)
        sizes = passage_tokens([_document(each) for each in docs], tokens) if lengths else []
        for question in make_questions(world, docs, named, _OF_A_WORLD, SHARES_BY_HOPS[HOPS]):
            if lengths:
                index = next(place)
                length = lengths[index % len(lengths)]
                others = _distractors(question, sizes, length, rng)
                yield _row(f"{name}-{seed}-{index:06d}", question, question.supports, others, docs)
            elif (only := _whole_answer(question, docs)) is not None:
                yield _row(f"{name}-{seed}-{next(place):06d}", question, [only], [], docs)


def _distractors(question: Question, sizes: Sequence[int], length: int, rng: random.Random) -> list[int]:
    """Documents that state none of the facts, as many as the length has room for, drawn at random."""
    left = length - sum(sizes[index] for index in question.supports)
    chosen = []
    for index in rng.sample(range(len(sizes)), len(sizes)):
        if index not in question.supports and sizes[index] <= left:
            chosen.append(index)
            left -= sizes[index]
    return chosen


def _whole_answer(question: Question, docs: Sequence[Passage]) -> int | None:
    """The first document that states every fact of the answer."""
    return next((index for index in question.supports if set(question.facts) <= set(docs[index].facts)), None)


def _row(
    name: str, question: Question, supports: Iterable[int], others: Iterable[int], docs: Sequence[Passage]
) -> dict[str, Any]:
    return {
        "id": name,
        "question": question.question,
        "answers": list(question.answers),
        "kind": question.kind,
        "language": "en",
        "documents": [{"title": docs[index].title, "text": docs[index].text} for index in supports],
        "distractors": [{"title": docs[index].title, "text": docs[index].text} for index in others],
    }


def _document(passage: Passage) -> Document:
    return Document(passage.title, passage.text)

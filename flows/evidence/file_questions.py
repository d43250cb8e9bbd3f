"""The questions of the evidence from a file about real text: split by document, with ready contexts.

    OUT/questions/seed-0/train.jsonl      questions to train on, contexts of both lengths in turn
    OUT/questions/seed-0/held-out.jsonl   questions to measure on, contexts of both lengths in turn
    OUT/questions/seed-0/short.jsonl      the questions to measure on, with their supporting documents alone
    OUT/questions/seed-0/tune.jsonl       questions to choose settings on, contexts of both lengths in turn

Which of the three parts a question belongs to follows from the hash of its first supporting document's title, so no
page is in two parts, whatever the seed. A seed decides which questions of a part are taken. Distractors are documents
of other questions of the same part that hold no reference answer.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.evidence.questions import HELD_OUT, SHORT, TRAIN, write_rows
from infra.canonical import seeded_random
from infra.errors import InputError
from infra.models.tokens import Tokenizer
from infra.recipe import Questions
from tasks.planning.passages import passage_tokens
from tasks.questions import RawQuestion, read_questions
from tasks.records.example import Document, Drop
from tasks.sub_em import sub_em

TUNE = "tune"
_PARTS = (TRAIN, TRAIN, HELD_OUT, HELD_OUT, TUNE)  # of each five titles


@dataclass(frozen=True, slots=True)
class _Part:
    """The questions of a part, and the tokens as a passage of each distinct document of these questions."""

    questions: Sequence[RawQuestion]
    tokens: Mapping[Document, int]


def write_file_questions(
    folder: Path, seed: int, source: Questions, count: int, lengths: Sequence[int], tokenizer: Tokenizer
) -> None:
    """Write the four files of a seed, each with `count` questions; the same arguments give the same bytes.

    `lengths` are those of the contexts, in tokens. Raises InputError when the file has too few questions that have
    supporting documents and reference answers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = _read_parts(source, tokenizer)
    for name, part in parts.items():
        if len(part.questions) < count:
            raise InputError(
                f"{source.source}: the part {name} has {len(part.questions)} questions with documents and references, "
                f"and {count} are to be used; give a larger file, or a smaller --count"
            )
        order = list(part.questions)
        seeded_random(seed, "evidence", name).shuffle(order)
        chosen = order[:count]
        rows = []
        for index, question in enumerate(chosen):
            rows.append(_row(question, _distractors(question, part, lengths[index % len(lengths)], seed)))
        write_rows(folder / f"{name}.jsonl", rows)
        if name == HELD_OUT:
            write_rows(folder / f"{SHORT}.jsonl", [_row(question, ()) for question in chosen])


def part_of(question: RawQuestion) -> str:
    """The part that a question belongs to, by its first supporting document."""
    digest = hashlib.sha256(question.documents[0].title.encode()).digest()
    return _PARTS[int.from_bytes(digest[:4], "big") % len(_PARTS)]


def _read_parts(source: Questions, tokenizer: Tokenizer) -> Mapping[str, _Part]:
    questions: dict[str, list[RawQuestion]] = {TRAIN: [], HELD_OUT: [], TUNE: []}
    for outcome in read_questions(source, "pooled"):
        if not isinstance(outcome, Drop) and outcome.references:
            questions[part_of(outcome)].append(outcome)
    parts = {}
    for name, questions_of_part in questions.items():
        documents: dict[Document, None] = {}  # an ordered set
        for question in questions_of_part:
            documents.update(dict.fromkeys(question.documents + question.distractors))
        tokens = passage_tokens(list(documents), tokenizer)
        parts[name] = _Part(questions_of_part, dict(zip(documents, tokens, strict=True)))
    return parts


def _distractors(question: RawQuestion, part: _Part, length: int, seed: int) -> list[Document]:
    """Documents in random order, as many as the length has room for."""
    room = length - sum(part.tokens[document] for document in question.documents)
    order = list(part.tokens)
    seeded_random(seed, "distractors", question.example_id).shuffle(order)
    titles = {document.title for document in question.documents}
    smallest = min(part.tokens.values())
    distractors = []
    for document in order:
        if room < smallest:
            break
        fits = part.tokens[document] <= room and document.title not in titles
        if fits and not sub_em(f"{document.title}\n{document.text}", question.references):
            distractors.append(document)
            room -= part.tokens[document]
    return distractors


def _row(question: RawQuestion, distractors: Sequence[Document]) -> dict[str, Any]:
    """A question in the factory's input format."""
    return {
        "id": question.example_id,
        "question": question.question,
        "answers": list(question.references),
        "kind": question.kind,
        "language": question.language,
        "documents": _document_rows(question.documents),
        "distractors": _document_rows(distractors),
    }


def _document_rows(documents: Sequence[Document]) -> list[dict[str, str]]:
    return [{"title": document.title, "text": document.text} for document in documents]

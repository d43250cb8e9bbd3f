"""Write a dataset of the microworld in the factory's input format.

    python -m infra.microworld.make --questions 200 --seed 7 --people 60 --out mill/demo

`questions.jsonl` has one question a line with the documents that support it, `pool.jsonl` has every document
of the world: distractors of the same world, so no context contradicts itself. The same arguments give the
same bytes. Contexts are built by the factory, at any length that the pool can fill.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from infra.microworld.questions import Question, make_questions
from infra.microworld.world import Document, documents, make_world


def write_dataset(folder: Path, questions: int, seed: int, people: int) -> None:
    """Write `questions.jsonl` and `pool.jsonl` for one world of this many people into the folder."""
    world = make_world(seed, people)
    docs = documents(world)
    folder.mkdir(parents=True, exist_ok=True)
    asked = make_questions(world, docs, seed, questions)
    rows = (_question_row(f"micro-{seed}-{index:06d}", question, docs) for index, question in enumerate(asked))
    _write_lines(folder / "questions.jsonl", rows)
    _write_lines(folder / "pool.jsonl", (_document_row(document) for document in docs))


def main() -> None:
    """Read the command line and write the dataset."""
    parser = argparse.ArgumentParser(description="Write questions and documents of a fictional world.")
    parser.add_argument("--questions", type=int, default=200, help="how many questions")
    parser.add_argument("--seed", type=int, default=7, help="seed of the world and of its questions")
    parser.add_argument("--people", type=int, default=60, help="people in the world; places, works, companies follow")
    parser.add_argument("--out", type=Path, required=True, help="folder for questions.jsonl and pool.jsonl")
    arguments = parser.parse_args()
    write_dataset(arguments.out, arguments.questions, arguments.seed, arguments.people)


def _question_row(name: str, question: Question, docs: list[Document]) -> dict[str, object]:
    return {
        "id": name,
        "question": question.question,
        "answer": question.answer,
        "answers": list(question.answers),
        "kind": question.kind,
        "language": "en",
        "documents": [_document_row(docs[index]) for index in question.supports],
    }


def _document_row(document: Document) -> dict[str, object]:
    return {"title": document.title, "text": document.text}


def _write_lines(path: Path, rows: Iterable[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

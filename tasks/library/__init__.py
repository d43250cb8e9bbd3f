"""The library: short articles of real text, written for this project, and questions about them with their proof.

    LANGUAGE/articles.jsonl     {"id", "title", "topic", "split", "text"}; paragraphs end with a blank line
    LANGUAGE/questions.jsonl    {"id", "question", "answers", "kind", "split", "evidence": [span, ...]}

LANGUAGE is "en" or "zh"; a span is {"article", "start", "end"}. `evidence` are the sentences that prove the answer, as
[start, end) in characters of the article's text; an unanswerable question names the article that is about its subject,
with the empty span [0, 0). `answers` are right ways to write the answer; those of a list question are its items, all
of which an answer must have. An article and all questions about it belong to one split. The demo and the tests use it;
`check.py` says what must be true of it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.canonical import seeded_random

ONE_HOP, TWO_HOP, LIST, COMPARISON, NUMBER, UNANSWERABLE = (
    "one-hop",
    "two-hop",
    "list",
    "comparison",
    "number",
    "unanswerable",
)
KINDS = (ONE_HOP, TWO_HOP, LIST, COMPARISON, NUMBER, UNANSWERABLE)
LANGUAGES = ("en", "zh")
QUESTIONS, POOL = "questions.jsonl", "pool.jsonl"
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Article:
    """A text about one subject."""

    id: str
    title: str
    topic: str
    split: str  # "train" or "test"
    text: str

    def paragraphs(self) -> list[tuple[int, int]]:
        """[start, end) of each paragraph, in characters of the text."""
        spans = []
        start = 0
        for paragraph in self.text.split("\n\n"):
            spans.append((start, start + len(paragraph)))
            start += len(paragraph) + 2
        return spans


@dataclass(frozen=True, slots=True)
class Evidence:
    """One or several adjacent sentences of an article, as [start, end) in characters of its text."""

    article: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class LibraryQuestion:
    """A question about one or two articles."""

    id: str
    question: str
    answers: tuple[str, ...]
    kind: str
    split: str
    evidence: tuple[Evidence, ...]


def library_articles(language: str) -> dict[str, Article]:
    """The articles by id, in the file's order."""
    articles = {}
    for row in _rows(language, "articles.jsonl"):
        articles[row["id"]] = Article(**row)
    return articles


def library_questions(language: str) -> list[LibraryQuestion]:
    """The questions, in the file's order."""
    questions = []
    for row in _rows(language, QUESTIONS):
        evidence = [Evidence(**span) for span in row["evidence"]]
        questions.append(LibraryQuestion(**{**row, "answers": tuple(row["answers"]), "evidence": tuple(evidence)}))
    return questions


def write_library(folder: Path, split: str, language: str = "en") -> None:
    """Write a split in the factory's input format: `questions.jsonl` and, with every article of it, `pool.jsonl`.

    The supporting documents of a question are its evidence's articles. Unanswerable questions are left out, because
    no substring tells an honest refusal from a wrong answer; the others come in a random order. The same arguments give
    the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    articles = library_articles(language)
    pool = []
    for article in articles.values():
        if article.split == split:
            pool.append({"title": article.title, "text": article.text})
    rows = []
    for question in library_questions(language):
        if question.split == split and question.kind != UNANSWERABLE:
            rows.append(_question_row(question, articles, language))
    seeded_random(0, "library", split, language).shuffle(rows)  # so that the first rows are of all topics and kinds
    for name, values in ((QUESTIONS, rows), (POOL, pool)):
        text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
        (folder / name).write_text(text, encoding="utf-8")


def _question_row(question: LibraryQuestion, articles: dict[str, Article], language: str) -> dict[str, Any]:
    documents: dict[str, Article] = {}  # by id: two spans may lie in one article
    evidence = []
    for span in question.evidence:
        article = documents.setdefault(span.article, articles[span.article])
        evidence.append({"title": article.title, "text": article.text[span.start : span.end]})
    return {
        "id": question.id,
        "question": question.question,
        "answers": list(question.answers),
        "kind": question.kind,
        "language": language,
        "documents": [{"title": article.title, "text": article.text} for article in documents.values()],
        "metadata": {"evidence": evidence},
    }


def _rows(language: str, name: str) -> Iterator[dict[str, Any]]:
    with (_FOLDER / language / name).open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)

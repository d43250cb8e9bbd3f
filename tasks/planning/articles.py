"""Whole articles in place of the short passages of questions, so that a passage's length does not give the answer away.

A question's row brings a few paragraphs; the pool's other documents are whole articles. Where the recipe says so
(`contexts.articles`), each of a question's own documents is replaced by the pool's article of the same title, as
SeaLong does it. Titles are compared without case, full stops and the kind of dash. Of several articles with a title,
the one whose title is written in the same way comes first, then the longest.

The articles that questions name lie in a temporary database on disk, so memory does not grow with their number.
Whether an article still says what the paragraph said is not checked: the pool may be of another year.
"""

import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from tasks.questions import RawQuestion
from tasks.records.example import Document, Drop

NO_ARTICLE = "no_article"  # reason of a drop
_FIND = "SELECT title, text FROM articles WHERE key = ? ORDER BY title = ? DESC, length(text) DESC, title, text LIMIT 1"
_DASHES = re.compile("[\u2010-\u2015\u2212]")


def title_key(title: str) -> str:
    """What two titles of one article have in common; empty for a title without a letter."""
    key = unicodedata.normalize("NFKC", title).casefold().replace(".", "").replace("_", " ")
    return " ".join(_DASHES.sub("-", key).split())


@dataclass(slots=True)
class ArticleCounts:
    """Own documents of the questions read so far, and those of them without an article."""

    supporting: int = 0
    distractors: int = 0
    supporting_without: int = 0
    distractors_without: int = 0


class Articles:
    """The pool's articles that questions name, by title."""

    def __init__(self, titles: Iterable[str], mode: Literal["prefer", "require"]) -> None:
        self.counts = ArticleCounts()
        self._mode = mode
        self._keys = {title_key(title) for title in titles} - {""}
        self._database = sqlite3.connect("")  # a file of its own, which is removed when the database is closed
        self._database.execute("CREATE TABLE articles (key TEXT, title TEXT, text TEXT)")

    def collect(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents as they come; those that a question names are stored."""
        for document in documents:
            if document.text.strip() and title_key(document.title) in self._keys:
                self._store(document)
            yield document
        self._database.execute("CREATE INDEX by_key ON articles (key)")

    def find(self, title: str) -> Document | None:
        """The article of a title."""
        row = self._database.execute(_FIND, (title_key(title), title)).fetchone()
        return Document(*row) if row else None

    def replaced(self, outcomes: Iterable[RawQuestion | Drop]) -> Iterator[RawQuestion | Drop]:
        """The questions with articles in place of their documents; a drop where one is required and not there."""
        for outcome in outcomes:
            yield outcome if isinstance(outcome, Drop) else self._with_articles(outcome)

    def warnings(self) -> list[str]:
        """What a plan says about the documents without an article."""
        counts = self.counts
        sentences = []
        of_supporting, of_distractors = "stay as short as they are", "stay too"
        if self._mode == "require":
            of_supporting, of_distractors = "their questions are dropped", "are left out"
        if counts.supporting_without:
            sentences.append(
                f"{counts.supporting_without:,} of {counts.supporting:,} supporting documents have no article of their "
                f"title in contexts.pool, and {of_supporting}"
            )
        if counts.distractors_without:
            sentences.append(
                f"{counts.distractors_without:,} of {counts.distractors:,} distractors of the questions' own rows have "
                f"no article of their title in contexts.pool, and {of_distractors}"
            )
        return sentences

    def _store(self, document: Document) -> None:
        try:
            values = (title_key(document.title), document.title, document.text)
            self._database.execute("INSERT INTO articles VALUES (?, ?, ?)", values)
        except UnicodeEncodeError:  # a lone surrogate; the pool counts and leaves out such documents
            return

    def _with_articles(self, question: RawQuestion) -> RawQuestion | Drop:
        documents, missing = self._articles_of(question.documents)
        distractors, missing_distractors = self._articles_of(question.distractors)
        counts = self.counts
        counts.supporting += len(question.documents)
        counts.distractors += len(question.distractors)
        counts.supporting_without += len(missing)
        counts.distractors_without += len(missing_distractors)
        if self._mode == "require":
            if missing:
                titles = ", ".join(repr(document.title) for document in missing)
                detail = f"contexts.pool holds no article of these titles of supporting documents: {titles}"
                return Drop(question.example_id, "context", NO_ARTICLE, detail)
            distractors = [document for document in distractors if document not in missing_distractors]
        return replace(question, documents=tuple(documents), distractors=tuple(distractors))

    def _articles_of(self, documents: Iterable[Document]) -> tuple[list[Document], list[Document]]:
        """(each document's article, or itself where there is none; the documents without one)."""
        results, missing = [], []
        for document in documents:
            article = self.find(document.title)
            if article is None:
                missing.append(document)
            results.append(article or document)
        return results, missing

"""The documents of a recipe while questions are planned: on disk, so that memory does not grow with them.

Documents that are alike share rare words: of the words that several documents have, the rarest count most. A document's
neighbour is the one with the largest sum of log(documents / documents with the word) over common words, as BM25 weighs
terms. Only documents of one language and one split are neighbours, so that no question of the training split is about a
document of the test split. Ties go to the smaller id, so the order of reading does not matter.
"""

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator

from tasks.documents import SourceDocument
from tasks.metrics import rouge_tokens

_MOST_TERMS = 2000  # of a document that are remembered, the most frequent
_RAREST = 48  # terms of a document by which its neighbour is found
_MOST_DOCUMENTS = 50  # that share a term, so that it still says something
_SHORTEST = 4  # letters of a term; of Chinese, two characters
_ADD = "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Corpus:
    """Documents by number, in the order of reading, without their headings; and their terms where `with_terms`."""

    def __init__(self, *, with_terms: bool) -> None:
        self._database = sqlite3.connect("")  # a file of its own, which is removed when the database is closed
        self._database.execute(
            "CREATE TABLE documents (number INTEGER PRIMARY KEY, id TEXT UNIQUE, title TEXT, text TEXT, language TEXT, "
            "side TEXT, pages TEXT, source TEXT, metadata TEXT)"
        )
        self._database.execute("CREATE TABLE terms (term TEXT, number INTEGER)")
        self._with_terms = with_terms
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, document: SourceDocument, side: str) -> None:
        """Remember a document of a split."""
        pages = json.dumps(list(document.page_starts))
        texts = document.document_id, document.title, document.text, document.language
        own = (*texts, side, pages, document.source, document.metadata)
        self._database.execute(_ADD, (self._count, *own))
        if self._with_terms:
            rows = [(term, self._count) for term in _terms(document.text)]
            self._database.executemany("INSERT INTO terms VALUES (?, ?)", rows)
        self._count += 1

    def settle(self) -> None:
        """All documents are there: order the terms for `neighbour`."""
        self._database.execute("CREATE INDEX by_term ON terms (term)")
        self._database.execute("CREATE INDEX by_number ON terms (number)")
        self._database.execute(
            "CREATE TABLE frequencies AS SELECT term, COUNT(*) AS documents FROM terms GROUP BY term"
        )
        self._database.execute("CREATE UNIQUE INDEX frequency ON frequencies (term)")

    def documents(self) -> Iterator[tuple[int, SourceDocument]]:
        """Every document with its number, in the order of reading."""
        for number in range(self._count):
            yield number, self.document(number)

    def document(self, number: int) -> SourceDocument:
        """A document by its number."""
        columns = "id, title, text, language, pages, source, metadata"
        row = self._database.execute(f"SELECT {columns} FROM documents WHERE number = ?", (number,)).fetchone()  # noqa: S608
        document_id, title, text, language, pages, source, metadata = row
        return SourceDocument(
            document_id=document_id,
            title=title,
            text=text,
            headings=(),
            page_starts=tuple(json.loads(pages)),
            language=language,
            source=source,
            metadata=metadata,
        )

    def neighbour(self, number: int) -> int | None:
        """The number of the document that is most alike; None where none shares a rare term."""
        rare = self._database.execute(
            "SELECT f.term, f.documents FROM terms t JOIN frequencies f ON f.term = t.term WHERE t.number = ? "
            "AND f.documents BETWEEN 2 AND ? ORDER BY f.documents, f.term LIMIT ?",
            (number, _MOST_DOCUMENTS, _RAREST),
        ).fetchall()
        scores: dict[int, float] = {}
        for term, documents in rare:
            weight = math.log((self._count + 1) / documents)
            for (other,) in self._database.execute("SELECT number FROM terms WHERE term = ?", (term,)):
                if other != number:
                    scores[other] = scores.get(other, 0.0) + weight
        own = self._identity(number)
        ranked = []
        for other, score in scores.items():
            other_id, *group = self._identity(other)
            if group == own[1:]:
                ranked.append((-round(score, 9), other_id, other))
        return min(ranked)[2] if ranked else None

    def _identity(self, number: int) -> list[str]:
        row = self._database.execute("SELECT id, language, side FROM documents WHERE number = ?", (number,)).fetchone()
        return list(row)

    def close(self) -> None:
        """Remove the file."""
        self._database.close()


def _terms(text: str) -> list[str]:
    """The different terms of a text, the most frequent first: words of some length, and pairs of Chinese characters."""
    counts: Counter[str] = Counter()
    for token in rouge_tokens(text):
        if "\u4e00" <= token[0] <= "\u9fff":
            counts.update(token[place : place + 2] for place in range(len(token) - 1))
        elif len(token) >= _SHORTEST:
            counts[token] += 1
    return [term for term, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_TERMS]]

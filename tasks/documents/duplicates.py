"""Documents that came before: the same text, or nearly the same by MinHash over sequences of words.

Two texts are alike by the share of their sequences of five words that they have in common (Jaccard), estimated from
128 MinHash values of each (datasketch). Only documents that have all values of a band in common are compared. The
first by order stays, and documents that are dropped are not compared with. Signatures lie in a temporary database on
disk, so memory does not grow with the number of documents.
"""

import hashlib
import re
import sqlite3
from typing import Any

import numpy as np

from tasks.documents.extra import load_library

_VALUES = 128  # of a signature
_WORDS = 5  # of a sequence
_FIND_SHARE = 0.99  # of the pairs that are as alike as the threshold: so many have a band in common
_MOST_COMPARED = 64  # documents of a band
_SIGNATURE = "SELECT source, signature FROM documents WHERE number = ?"
# A word, or one character of a text without spaces.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


class Duplicates:
    """What documents have been used so far. `threshold`: smallest likeness of a near-duplicate; None: equal texts."""

    def __init__(self, threshold: float | None) -> None:
        self._threshold = threshold
        self._minhash: Any = None
        if threshold is not None:
            self._minhash = load_library("datasketch", "finding near-duplicates (documents.near_duplicates)").MinHash
            self._rows = _rows_of_band(threshold)
        self._database = sqlite3.connect("")  # a file of its own, which is removed when the database is closed
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA cache_size = -65536")  # KiB
        self._database.execute("CREATE TABLE texts (id BLOB PRIMARY KEY, source TEXT) WITHOUT ROWID")
        self._database.execute("CREATE TABLE documents (number INTEGER PRIMARY KEY, source TEXT, signature BLOB)")
        self._database.execute(
            "CREATE TABLE bands (band INTEGER, number INTEGER, PRIMARY KEY (band, number)) WITHOUT ROWID"
        )

    def earlier(self, document_id: str, source: str, text: str) -> tuple[str, float | None] | None:
        """(source of an earlier document that is alike, its likeness, or None where the texts are equal).

        None for a new document, which is remembered.
        """
        key = bytes.fromhex(document_id)
        row = self._database.execute("SELECT source FROM texts WHERE id = ?", (key,)).fetchone()
        if row:
            return row[0], None
        if self._threshold is not None:
            near = self._near(source, text, self._threshold)
            if near is not None:
                return near
        self._database.execute("INSERT INTO texts VALUES (?, ?)", (key, source))
        return None

    def close(self) -> None:
        """Remove the database."""
        self._database.close()

    def _near(self, source: str, text: str, threshold: float) -> tuple[str, float] | None:
        values = self._signature(text)
        bands = []
        for start in range(0, _VALUES - self._rows + 1, self._rows):
            part = values[start : start + self._rows].tobytes()
            bands.append(int.from_bytes(_digest(start, part), "little", signed=True))
        numbers: set[int] = set()
        for band in bands:
            rows = self._database.execute("SELECT number FROM bands WHERE band = ? LIMIT ?", (band, _MOST_COMPARED))
            numbers.update(row[0] for row in rows)
        for number in sorted(numbers):
            row = self._database.execute(_SIGNATURE, (number,)).fetchone()
            likeness = float(np.mean(np.frombuffer(row[1], values.dtype) == values))
            if likeness >= threshold:
                return row[0], likeness
        added = self._database.execute("INSERT INTO documents VALUES (NULL, ?, ?)", (source, values.tobytes()))
        self._database.executemany(
            "INSERT OR IGNORE INTO bands VALUES (?, ?)", [(band, added.lastrowid) for band in bands]
        )
        return None

    def _signature(self, text: str) -> Any:
        words = _WORD.findall(text.lower())
        sequences = {
            " ".join(words[place : place + _WORDS]).encode() for place in range(max(1, len(words) - _WORDS + 1))
        }
        signature = self._minhash(num_perm=_VALUES, seed=1)
        signature.update_batch(list(sequences))
        return signature.hashvalues


def _digest(start: int, part: bytes) -> bytes:
    return hashlib.blake2b(part, digest_size=8, salt=start.to_bytes(4, "little")).digest()


def _rows_of_band(threshold: float) -> int:
    """The most values in a band with which _FIND_SHARE of the pairs as alike as the threshold have one in common."""
    for rows in range(_VALUES, 1, -1):
        if 1 - (1 - threshold**rows) ** (_VALUES // rows) >= _FIND_SHARE:
            return rows
    return 1

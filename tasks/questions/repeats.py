"""Questions whose id a row before has had: only the first one counts."""

from dataclasses import dataclass

from infra.canonical import fingerprint
from tasks.questions.question import RawQuestion, SourceRow, content_digest
from tasks.records.example import Drop

REPEATS = "repeats row"  # in the detail of a duplicate_id whose row says the same as the first one


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells whether a question repeats another one: short digests of its id and of all else, and where it is."""

    key: str
    content: str
    example_id: str  # as it can be written
    number: int  # of its row
    place: str


def identity(question: RawQuestion, row: SourceRow) -> Identity:
    """The identity of a question of a row."""
    place = f"row {row.number} of {row.file.replace(chr(92), '/').rsplit('/', 1)[-1]}"
    return Identity(
        fingerprint(question.example_id)[:32],
        content_digest(question)[:16],
        _writable(question.example_id),
        row.number,
        _writable(place),
    )


class FirstRows:
    """The questions of a source so far, about 200 bytes each."""

    def __init__(self) -> None:
        self._rows: dict[bytes, tuple[int, bytes]] = {}  # digest of an id -> number and content digest of its first row

    def repetition(self, question: Identity | None) -> Drop | None:
        """The drop of a question whose id was there before; None for a new id, which is remembered, and for None."""
        if question is None:
            return None
        key, content = bytes.fromhex(question.key), bytes.fromhex(question.content)
        if key not in self._rows:
            self._rows[key] = (question.number, content)
            return None
        first_number, first_content = self._rows[key]
        repetition = f"has the id of row {first_number}, which says something else"
        if first_content == content:
            repetition = f"{REPEATS} {first_number}"
        return Drop(question.example_id, "read", "duplicate_id", f"{question.place} {repetition}")


def _writable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

"""A question that was written about documents, with what proves its answer: a row of a shard's table `questions`."""

from dataclasses import dataclass
from typing import TypedDict

from tasks.records.schema import schema_of


class EvidenceSpan(TypedDict):
    """A sentence that proves the answer: [start, end) in characters of the text of the row's document `document`."""

    document: int  # its place among the documents of the row, from 0
    start: int
    end: int
    sentence: str


@dataclass(frozen=True, slots=True)
class WrittenQuestion:
    """A question that has passed its checks. `context_id` is the id of its first document, which decides its split."""

    example_id: str
    context_id: str
    question: str
    answers: tuple[str, ...]
    kind: str
    language: str
    evidence: tuple[EvidenceSpan, ...]
    difficulty: float | None  # share of the policy's tries that are wrong, in [0, 1]; null where it was not asked
    tries: int  # of the policy, with the passages


QUESTION = schema_of(WrittenQuestion)

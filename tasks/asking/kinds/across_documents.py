"""A question that takes facts of two documents."""

from collections.abc import Sequence

from tasks.asking.kind import Draft, QuestionKind
from tasks.records.question import EvidenceSpan


def needs_two_documents(draft: Draft, evidence: Sequence[EvidenceSpan]) -> str | None:
    """A proof from one document needs no other."""
    return "its proof is from one document" if len({span["document"] for span in evidence}) < 2 else None


KIND = QuestionKind("across_documents", source="documents", test=needs_two_documents, needs_each=True)

"""A question that takes two facts or more of one document: one leads to what the other is about."""

from collections.abc import Sequence

from tasks.asking.kind import Draft, QuestionKind
from tasks.records.question import EvidenceSpan


def needs_two_sentences(draft: Draft, evidence: Sequence[EvidenceSpan]) -> str | None:
    """Fewer than two sentences prove one fact."""
    return "its proof has fewer than two sentences" if len(evidence) < 2 else None


KIND = QuestionKind("multi_hop", source="apart", test=needs_two_sentences, needs_each=True)

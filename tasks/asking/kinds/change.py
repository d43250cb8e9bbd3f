"""A question for what was changed in the course of a history: from what, to what."""

from collections.abc import Sequence

from tasks.asking.kind import Draft, QuestionKind
from tasks.records.question import EvidenceSpan


def needs_two_turns(draft: Draft, evidence: Sequence[EvidenceSpan]) -> str | None:
    """One turn says how things were, another one that they are no longer so."""
    return "its proof is one turn" if len(evidence) < 2 else None


KIND = QuestionKind("change", source="long", test=needs_two_turns, needs_each=True, histories=True)

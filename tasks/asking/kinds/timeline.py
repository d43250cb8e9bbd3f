"""A question for the order of events."""

from collections.abc import Sequence

from tasks.asking.kind import Draft, QuestionKind
from tasks.asking.matching import same_order
from tasks.records.question import EvidenceSpan


def has_events(draft: Draft, evidence: Sequence[EvidenceSpan]) -> str | None:
    """Three different events or more, from two sentences or more."""
    if len(set(draft.answers)) < 3:
        return "it has fewer than three events"
    return "its proof has fewer than two sentences" if len(evidence) < 2 else None


KIND = QuestionKind("timeline", source="long", test=has_events, same=same_order, several_answers=True)

"""A question for a number that is stated, or computed from numbers that are."""

from collections.abc import Sequence

from tasks.asking.kind import Draft, QuestionKind
from tasks.asking.matching import numbers_in, same_number
from tasks.records.question import EvidenceSpan


def has_number(draft: Draft, evidence: Sequence[EvidenceSpan]) -> str | None:
    """The answer has a number, and so has its proof."""
    if not any(map(numbers_in, draft.answers)):
        return "its answer has no number"
    if not any(numbers_in(span["sentence"]) for span in evidence):
        return "its proof has no number"
    return None


KIND = QuestionKind("number", source="one", test=has_number, same=same_number)

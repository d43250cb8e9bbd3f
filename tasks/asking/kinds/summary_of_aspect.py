"""A question whose answer sums up what is said on one aspect, in a few sentences."""

from collections.abc import Sequence

from tasks.asking.kind import Draft, QuestionKind
from tasks.asking.matching import same_summary
from tasks.records.question import EvidenceSpan
from tasks.sub_em import normalised_tokens

FEWEST_WORDS, FEWEST_SENTENCES = 15, 3


def has_substance(draft: Draft, evidence: Sequence[EvidenceSpan]) -> str | None:
    """An answer of some length, from three sentences or more."""
    if len(evidence) < FEWEST_SENTENCES:
        return f"its proof has fewer than {FEWEST_SENTENCES} sentences"
    words = len(normalised_tokens(" ".join(draft.answers)))
    return f"its answer has fewer than {FEWEST_WORDS} words" if words < FEWEST_WORDS else None


KIND = QuestionKind("summary_of_aspect", source="long", test=has_substance, same=same_summary)

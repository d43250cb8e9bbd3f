"""A question for all things of a sort, which stand in several places."""

from collections.abc import Sequence

from tasks.asking.kind import Draft, QuestionKind
from tasks.asking.matching import same_items
from tasks.records.question import EvidenceSpan
from tasks.sub_em import sub_em

FEWEST_ITEMS, FEWEST_PLACES = 3, 2


def has_items_in_places(draft: Draft, evidence: Sequence[EvidenceSpan]) -> str | None:
    """Three items or more, each in the proof, which has two sentences or more."""
    if len(set(draft.answers)) < FEWEST_ITEMS:
        return f"it has fewer than {FEWEST_ITEMS} items"
    if len(evidence) < FEWEST_PLACES:
        return "its items stand in one place"
    proof = "\n".join(span["sentence"] for span in evidence)
    for item in draft.answers:
        if sub_em(proof, [item]) != 1.0:
            return f"its item {item!r} is not in its proof"
    return None


KIND = QuestionKind("list", source="long", test=has_items_in_places, same=same_items, several_answers=True)

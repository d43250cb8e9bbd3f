"""Answers without a fact: an honest refusal where the context holds nothing, a missed answer where it holds something.

An answer that claims no fact, such as "the text does not say", has nothing to check against the context. What it is
worth depends on completeness' notes on the context: where they are empty it is an honest refusal and gets `no_facts`;
where they hold something it gets `no_facts_despite_notes`. Without the scorer completeness nothing is known of that,
and it gets `no_facts`. An answer with a score of 0 for that reason may be rejected and is never chosen.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Literal

from tasks.judging.replies import says_nothing
from tasks.records.example import AnswerId, Judgement

NOTES_SCORER = "completeness"
FACTS_SCORER = "faithfulness"
DESPITE_NOTES = "no_facts_despite_notes"  # a key of the scorer, a reason, and a mark in the evidence

IGNORED = "ignore_notes"  # a value of the key

Notes = Literal["unknown", "empty", "missing", "hold"]
DespiteNotes = Literal[0, "ignore_notes"] | None  # value of the key


def notes_by_answer(others: Mapping[str, Mapping[AnswerId, Judgement]]) -> dict[AnswerId, Notes]:
    """What the notes hold on each answer's question, by the judgements of the other scorers."""
    states = {}
    for answer_id, judgement in others.get(NOTES_SCORER, {}).items():
        states[answer_id] = _notes_state(json.loads(judgement.evidence).get("notes"))
    return states


def unfounded_refusals(judgements: Iterable[Judgement]) -> frozenset[AnswerId]:
    """The answers that claim no fact though the notes hold something, and have a score all the same."""
    ids = set()
    for judgement in judgements:
        if judgement.scorer == FACTS_SCORER and is_unfounded(judgement.score, judgement.evidence):
            ids.add(judgement.answer_id)
    return frozenset(ids)


def is_unfounded(score: float | None, evidence: str) -> bool:
    """Whether this is faithfulness' score of such an answer, by its evidence."""
    return score == 0 and bool(json.loads(evidence).get(DESPITE_NOTES))


def _notes_state(notes: list[dict[str, str | None]] | None) -> Notes:
    if notes is None:
        return "unknown"
    texts = [note["text"] for note in notes]
    if any(text is not None and not says_nothing(text) for text in texts):
        return "hold"
    return "missing" if any(note["reason"] is not None for note in notes) else "empty"

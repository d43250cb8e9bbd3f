"""The words of refusals: why an answer has no text, as the server or the model said it.

An answer holds the name of its outcome alone; its ledger entry holds the error, or the reply in which the model
declines. The words go into drops and evidence, where a person looks for the cause.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from infra.canonical import canonical_json
from infra.models.completions import FINISHED, refusal_in
from infra.models.protocol import LedgerLike
from infra.models.refusals.rules import refusal_message, without_secrets
from infra.models.thinking import UNFINISHED
from tasks.records.example import Answer, AnswerId, Judgement

_CHARACTERS = 300  # of what a model says when it declines


def is_refused(answer: Answer) -> bool:
    """Whether there is no answer, so that there is no text to compare with a reference."""
    return without_answer(answer.text, answer.finish_reason)


def without_answer(text: str, finish_reason: str) -> bool:
    """Whether a call brought no answer. Thinking that never ended is an answer, an empty one."""
    return not text and finish_reason not in (*FINISHED, UNFINISHED)


def refusal_words(answers: Iterable[Answer], ledger: LedgerLike) -> dict[AnswerId, str]:
    """The words of the refused answers; those that came without words are left out. Raises LedgerError."""
    refused = [answer for answer in answers if answer.key and is_refused(answer)]
    if not refused:
        return {}
    entries = ledger.lookup([answer.key for answer in refused])
    words = {}
    for answer in refused:
        entry = entries.get(answer.key)
        if entry is None:
            continue
        declined = " ".join(refusal_in(entry.reply).split()) if entry.status == 200 else refusal_message(entry.reply)
        if declined:
            words[answer.id] = without_secrets(declined)[:_CHARACTERS]
    return words


def with_words(judgements: Sequence[Judgement], words: Mapping[AnswerId, str]) -> list[Judgement]:
    """Judgements whose evidence has the words of the refusal that left them without a score, as "refusal"."""
    explained = []
    for judgement in judgements:
        refusal = words.get(judgement.answer_id)
        if refusal and judgement.score is None:
            evidence = json.loads(judgement.evidence) | {"refusal": refusal}
            judgement = replace(judgement, evidence=canonical_json(evidence).decode())
        explained.append(judgement)
    return explained

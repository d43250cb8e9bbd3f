"""Which finished work is made again because the server may now answer what it had refused.

The ledger decides: a refusal, or a reply that was cut short, that is due (`RecordedRefusals`); one that has been
replaced since; and one that it does not have, which was no refusal of the prompt: earlier versions dropped questions
for an empty account, too. Leaves out: other drops. A reply stays what it is: a tie or an unusable rating would come
again.
"""

from collections.abc import Iterable, Mapping

from infra.ledger import Entry
from infra.models.protocol import LedgerLike, parse_reply
from infra.models.refusals.recorded import RecordedRefusals
from infra.models.refusals.rules import BAD_REQUEST, PROMPT_REFUSALS, PROMPT_TOO_LONG
from infra.store import Store
from tasks.records.example import Answer
from tasks.records.shard import ShardResult
from tasks.refused_answers import is_refused

RETRIED = PROMPT_REFUSALS | {"abort", "error"}  # outcomes of calls that may be made again
NO_SCORES = "too_few_scored"  # the reason of a drop for want of scores


def has_due_drop(
    result: ShardResult, answers: Iterable[Answer], store: Store, ledger: LedgerLike, refusals: RecordedRefusals
) -> bool:
    """Whether a question of a finished shard was dropped for a refusal that is to be tried again.

    `answers` are the shard's. Raises StoreError and LedgerError.
    """
    if not result.drops:
        return False
    drops = result.files["drops"].read_checked(store, ["example_id", "reason"]).to_pylist()
    dropped = {drop["example_id"] for drop in drops}
    if has_due_answer([answer for answer in answers if answer.example_id in dropped], ledger, refusals):
        return True
    unscored = {drop["example_id"] for drop in drops if drop["reason"] == NO_SCORES}
    return bool(unscored) and _has_due_judgement(result, unscored, store, ledger, refusals)


def has_due_answer(answers: Iterable[Answer], ledger: LedgerLike, refusals: RecordedRefusals) -> bool:
    """Whether an answer was refused or cut short and is to be drawn again. Raises LedgerError."""
    refused = [answer for answer in answers if answer.key and is_refused(answer)]
    entries = ledger.lookup([answer.key for answer in refused]) if refused else {}
    return any(_is_due(answer, entries, refusals) for answer in refused)


def _is_due(answer: Answer, entries: Mapping[str, Entry], refusals: RecordedRefusals) -> bool:
    entry = entries.get(answer.key)
    if entry is None or refusals.is_due(entry):
        return True
    if entry.is_refusal or answer.finish_reason not in RETRIED:
        return False
    outcome = parse_reply(entry)
    return getattr(outcome, "finish_reason", "") != answer.finish_reason  # a reply has taken its place


def _has_due_judgement(
    result: ShardResult, unscored: set[str], store: Store, ledger: LedgerLike, refusals: RecordedRefusals
) -> bool:
    """Whether an answer of these examples has no score because the judge refused it, and may have one now."""
    columns = ["example_id", "reason", "keys"]
    refused = []
    keys: dict[str, None] = {}
    for row in result.files["judgements"].read_checked(store, columns).to_pylist():
        if row["example_id"] in unscored and _cause(row["reason"]) in RETRIED:
            refused.append(row)
            keys |= dict.fromkeys(row["keys"])
    entries = ledger.lookup(list(keys)) if keys else {}
    if any(map(refusals.is_due, entries.values())):
        return True
    for row in refused:
        replied = [key in entries and not entries[key].is_refusal for key in row["keys"]]
        if _cause(row["reason"]) in (PROMPT_TOO_LONG, BAD_REQUEST) and replied and all(replied):
            return True  # replies have taken the refusal's place
    return False


def _cause(reason: str | None) -> str:
    """Why a score is missing, without the step that it is missing for, as in "notes: prompt_too_long"."""
    return (reason or "").rpartition(": ")[2]

"""The judgement on an answer whose facts were checked: its score, and the evidence of every fact.

A fact's evidence: "text", "support", "reason", "passages", "reply" and "key" of the call, "shared" with an earlier
answer, and "number" where the call was about several facts. With a verifier also "by" ("verifier" or "judge") and the
"probability" of support; in the control sample "control", the judge's verdict on the fact alone.
"""

import math
from typing import Any

from tasks.judging.context import SCORE_DIGITS
from tasks.judging.fact_settings import FactSettings
from tasks.judging.facts import FactCheck
from tasks.judging.pruning import PRUNED
from tasks.judging.refusals import DESPITE_NOTES
from tasks.judging.verifier_settings import VERIFIER
from tasks.records.example import Judgement


def checked_judgement(scorer: str, check: FactCheck, settings: FactSettings, judged: set[tuple[int, str]]) -> Judgement:
    """The judgement on a checked answer. `judged`: (variant, fact) of verdicts that an earlier answer has; grows."""
    facts = [_fact_evidence(check, place, judged) for place in range(len(check.facts))]
    judged.update((check.variant, fact) for fact in check.facts if fact in check.verdicts)
    evidence = {"reply": check.listed.reply, "facts": facts, "no_facts": check.listed.value == ()}
    if check.despite_notes(settings) and check.notes == "hold":
        evidence[DESPITE_NOTES] = True
    score, reason = support_score(check, settings)
    keys = dict.fromkeys(check.listed.keys)
    for fact in check.facts:
        verified = check.verified[fact].keys if check.verified else ()
        for verdict in (check.verdicts.get(fact), check.controls.get(fact)):
            keys.update(dict.fromkeys((*verified, *(verdict.keys if verdict else ()))))
    return check.answer.judged(scorer, score, reason, evidence, keys)


def support_score(check: FactCheck, settings: FactSettings) -> tuple[float | None, str | None]:
    """The score and, where it is None, the reason."""
    if check.fault is not None:
        return None, check.fault
    if check.missing:
        return None, PRUNED
    if not check.facts:
        score = check.no_facts_score(settings)
        reason = DESPITE_NOTES if check.despite_notes(settings) else "no_facts"
        return score, reason if score is None else None
    supported = math.fsum(verdict.value or 0.0 for verdict in check.own_verdicts)
    return round(10 * supported / len(check.facts), SCORE_DIGITS), None


def _fact_evidence(check: FactCheck, place: int, judged: set[tuple[int, str]]) -> dict[str, Any]:
    fact = check.facts[place]
    verdict = check.verdicts.get(fact)
    number = check.number(fact)
    evidence: dict[str, Any] = {
        "text": fact,
        "support": verdict.value if verdict else None,
        "reason": verdict.reason if verdict else PRUNED,
        "passages": [list(span) for span in check.passages[place]],
        "reply": verdict.reply if verdict else None,
        "key": verdict.keys[-1] if verdict and verdict.keys else None,
        "shared": verdict is not None and (check.variant, fact) in judged,
    }
    if number is not None:
        evidence["number"] = number
    if check.verified is not None:
        by_verifier = check.is_verified(fact)
        evidence |= {"by": VERIFIER if by_verifier else "judge", "probability": check.verified[fact].probability}
        evidence["reply"] = None if by_verifier else evidence["reply"]
    control = check.controls.get(fact)
    if control is not None and not evidence["shared"]:
        evidence["control"] = {"support": control.value, "reason": control.reason, "reply": control.reply}
    return evidence

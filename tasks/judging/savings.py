"""How many calls to the judge were saved, told from the evidence alone, so that a report can say so at any time.

What the ledger saved is not here: the same evidence may have been paid for in this run or in another one.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.nouns import Judgement

PRUNED = "pruned"  # reason of a score, and of a fact, that was not asked for because it could change no pair


def saved_calls(judgements: Iterable[Judgement]) -> dict[str, int]:
    """Verdicts on facts that were not asked for: "shared" with an equal fact, or "pruned"."""
    saved = {"shared": 0, "pruned": 0}
    for judgement in judgements:
        for name, count in saved_verdicts(json.loads(judgement.evidence)).items():
            saved[name] += count
    return saved


def saved_verdicts(evidence: Mapping[str, Any]) -> dict[str, int]:
    """The same of one judgement's evidence."""
    facts = evidence.get("facts", ())
    return {
        "shared": sum(fact["shared"] for fact in facts),
        "pruned": sum(fact["reason"] == PRUNED for fact in facts),
    }

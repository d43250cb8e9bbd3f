"""How many calls to the judge were saved, told from the evidence alone, so that a report can say so at any time.

What the ledger saved is not here: the same evidence may have been paid for in this run or in another one.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.records.example import Judgement

PRUNED = "pruned"  # reason of a score, and of a fact, that was not asked for because it could change no pair


def saved_calls(judgements: Iterable[Judgement]) -> dict[str, int]:
    """Verdicts on facts that cost no call: "shared" with an equal fact, "pruned", and where facts were judged several
    a call, "batched": all but the first of each call."""
    saved = Counter({"shared": 0, "pruned": 0})
    for judgement in judgements:
        saved.update(saved_verdicts(json.loads(judgement.evidence)))
    return dict(saved)


def saved_verdicts(evidence: Mapping[str, Any]) -> dict[str, int]:
    """The same of one judgement's evidence."""
    facts = evidence.get("facts", ())
    batched = sum(fact.get("number", 1) > 1 and not fact["shared"] for fact in facts)
    return {
        "shared": sum(fact["shared"] for fact in facts),
        "pruned": sum(fact["reason"] == PRUNED for fact in facts),
        **({"batched": batched} if batched else {}),
    }

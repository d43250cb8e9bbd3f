"""What a cascade did: which stage decided how many questions, how many answers were judged, and the agreement reached.

The agreement is measured on the control sample: questions whose every answer was judged, of which the evidence says
whether the cascade would have taken the judge's best and worst answer.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from tasks.judging.cascade_calibration import IN_PART, JUDGE, chance_of
from tasks.reporting.judged_questions import JudgedQuestion
from tasks.scoring import CASCADE

_DIGITS = 4
_TAIL = 0.025  # of a 95% interval


class CascadeTally:
    """Counts the questions of a cascade."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()  # of questions and answers
        self._stages: Counter[str] = Counter()  # of questions by the stage that decided, the control sample's left out
        self._expected: float | None = None

    def add(self, question: JudgedQuestion) -> None:
        """Count a question; one that no cascade has judged does not count."""
        scores = [answer.scores[CASCADE] for answer in question.answers if CASCADE in answer.scores]
        if not scores:
            return
        first = scores[0].evidence
        self._expected = first.get("expected", self._expected)
        answers = [score for score in scores if score.evidence.get("by") is not None]
        judged = sum(score.evidence["by"] == JUDGE for score in answers)
        if first.get("control"):
            self._counts.update(control=1, agrees=bool(first.get("agrees")))
        else:
            self._stages[str(first["stage"])] += 1
            self._counts.update(answers=len(answers), judged=judged)
            if in_part := sum(score.evidence["by"] == IN_PART for score in answers):
                self._counts.update(in_part=in_part)

    def state(self) -> dict[str, Any]:
        """What has been counted, as JSON values, for `merge`; empty without a cascade."""
        if not self._counts and not self._stages:
            return {}
        return {"counts": dict(self._counts), "stages": dict(self._stages), "expected": self._expected}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Count what another tally has counted."""
        self._counts.update(state.get("counts", {}))
        self._stages.update(state.get("stages", {}))
        self._expected = state.get("expected", self._expected)

    def figures(self) -> dict[str, Any] | None:
        """{"decided": {stage: questions}, "answers", "judged", "in_part": where some were judged in part alone,
        "expected": agreement by the calibration or null where all is judged, "measured": {"value", "low", "high", "n"}
        on the control sample or null}; None without one."""
        if not self._counts and not self._stages:
            return None
        control, agreeing = self._counts["control"], self._counts["agrees"]
        measured = None
        if control:
            low, high = exact_interval(agreeing, control)
            measured = {"value": round(agreeing / control, _DIGITS), "low": low, "high": high, "n": control}
        return {
            "decided": dict(sorted(self._stages.items())),
            "answers": self._counts["answers"],
            "judged": self._counts["judged"],
            **({"in_part": self._counts["in_part"]} if self._counts["in_part"] else {}),
            "expected": self._expected,
            "measured": measured,
        }


def exact_interval(successes: int, trials: int) -> tuple[float, float]:
    """The exact 95% interval of a share (Clopper and Pearson 1934): a resampled one is a point where all succeed."""
    errors = trials - successes
    most = _share_where(lambda share: chance_of(errors, trials, share) < _TAIL) if successes else 1.0
    least = _share_where(lambda share: 1 - chance_of(errors - 1, trials, share) > _TAIL) if errors else 0.0
    return round(1 - most, _DIGITS), round(1 - least, _DIGITS)


def _share_where(holds: Callable[[float], bool]) -> float:
    """The smallest share of errors for which it holds, by halving; it holds for all above it."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high

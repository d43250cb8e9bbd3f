"""The trial of a judge: its first replies of each kind, before more is spent on a judge whose replies cannot be used.

Of each kind of call, and of all kinds but notes together, the first `size` replies decide: when half of them or more
cannot be used, every further call to the judge is refused. Until a kind is decided, at most `size` of its calls are
in flight. First replies to different queries count, so that a query which is asked again does not count twice; replies
from the ledger count like new ones. A run with fewer calls is never stopped. The trial is one process's: a shard on
another worker has its own.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from infra.errors import JudgeError

SIZE = 32
NOTES = "notes"  # any text is a note, so they say nothing of how a judge writes a label
_ALL = "all kinds"
_SHOWN = 3  # replies, in the message
_CHARACTERS = 200  # of each
_REMEDIES = {
    "cut_off": "its replies are cut: raise the scorer's max_tokens, or judge.reasoning_tokens for a judge that thinks",
    "unfinished_thinking": "its thinking is cut: raise judge.reasoning_tokens",
    "empty": "its replies are empty: for a judge that thinks, raise judge.reasoning_tokens",
    "refused": "it refuses: take a judge that rates such texts",
    "tool_calls": "it calls a tool in place of an answer: serve it without tools",
    "abort": "its server ends replies early: look at the server's log",
    "error": "its server ends replies early: look at the server's log",
    "unknown": "its server does not say how a reply ended (finish_reason): take a server or a gateway that does",
    "content_filter": "a filter stops it: take a judge, or a provider, that reads such texts",
    "off_scale": "it rates on another scale: try the other judge.prompts (full, terse)",
}
_REMEDY = "it gives no label: try the other judge.prompts (full, terse), or a server that constrains replies (vLLM)"
_ENDING = (
    ". The run stops before more is spent; what was paid for is in the ledger. With execution.judge_trial: 0 it goes "
    "on all the same"
)


@dataclass(slots=True)
class _Tally:
    """What is known of one kind of call."""

    sent: int = 0  # in flight, or replied
    replies: int = 0
    unusable: list[tuple[str, str]] = field(default_factory=list)  # reason and text


class JudgeTrial:
    """Counts a judge's first replies. Thread-safe. `size` 0: nothing is tried. `ending`: of the message."""

    def __init__(self, size: int = SIZE, judge: str = "the judge", ending: str = _ENDING) -> None:
        self._size = size
        self._judge = judge
        self._ending = ending
        self._change = threading.Condition()
        self._tallies: dict[str, _Tally] = {}
        self._error: str | None = None

    def begin(self, kind: str, calls: int) -> int:
        """How many of these calls may be sent now, one at least; waits for others. Each `begin` needs its `end`.

        Raises JudgeError when the judge has failed its trial.
        """
        with self._change:
            tally = self._tallies.setdefault(kind, _Tally())
            while self._error is None and tally.replies < self._size <= tally.sent:
                self._change.wait()
            if self._error is not None:
                raise JudgeError(self._error)
            number = calls if tally.replies >= self._size else min(calls, self._size - tally.sent)
            tally.sent += number
            return number

    def end(self, kind: str, calls: int, replies: int, unusable: Sequence[tuple[str, str]]) -> None:
        """Of `calls` that were begun, `replies` came; `unusable`: (reason, text) of those that cannot be used.

        Raises JudgeError when the judge has failed its trial.
        """
        with self._change:
            self._tallies[kind].sent -= calls - replies
            for name in (kind, *(() if kind == NOTES else (_ALL,))):
                self._count(name, replies, unusable)
            self._change.notify_all()
            if self._error is not None:
                raise JudgeError(self._error)

    def _count(self, name: str, replies: int, unusable: Sequence[tuple[str, str]]) -> None:
        tally = self._tallies.setdefault(name, _Tally())
        if tally.replies >= self._size:
            return
        tally.replies += replies
        tally.unusable.extend(unusable)
        if self._error is None and tally.replies >= self._size and 2 * len(tally.unusable) >= tally.replies:
            self._error = self._message(name, tally)

    def _message(self, name: str, tally: _Tally) -> str:
        reasons = Counter(reason for reason, _ in tally.unusable).most_common()
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons)
        texts = []
        for _, text in tally.unusable[:_SHOWN]:
            line = " ".join(text.split())
            texts.append(f"“{line if len(line) <= _CHARACTERS else line[: _CHARACTERS - 1] + '…'}”")
        return (
            f"{self._judge}: {len(tally.unusable)} of its first {tally.replies} replies to {name} cannot be used "
            f"({counts}). {_SHOWN} of them: {' · '.join(texts)}. "
            f"Most often {_REMEDIES.get(reasons[0][0], _REMEDY)}{self._ending}"
        )

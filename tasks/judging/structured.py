"""Structured output: replies that cannot have another form, where the judge's server can constrain them.

vLLM takes a regular expression or a choice in the body's `structured_outputs`. Other servers refuse the field or
pass over it in silence, and only a reply tells which: the server is asked once for words that no model would say to
that by itself. The ledger keeps its answer, a refusal too, so a second run asks nothing. Parsing is as strict either
way, so a server that constrains choices and passes over expressions does no harm. What it leaves out: JSON schemas,
and the older names of the field.
"""

from dataclasses import dataclass
from typing import Any, Literal

from infra.models.client import Outcome, Prompt, Reply, Request
from infra.recipe import Judge

FIELD = "structured_outputs"
PROBE = "probe"  # the kind of call that finds out
_GREETING = Prompt(({"role": "user", "content": "Say hello."},))
_FORCED = "[[7]] [[7]]"


@dataclass(frozen=True, slots=True)
class ReplyForm:
    """What a reply must look like: a regular expression, or one of some strings."""

    kind: Literal["regex", "choice"]
    value: str | tuple[str, ...]


def form_field(form: ReplyForm) -> dict[str, Any]:
    """The value of the body's field."""
    return {form.kind: form.value if isinstance(form.value, str) else list(form.value)}


def probe(judge: Judge) -> Request:
    """The call that finds out whether the judge's server constrains replies."""
    parameters = {
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 32,
        "seed": 0,
        FIELD: form_field(ReplyForm("choice", (_FORCED,))),
    }
    return Request(PROBE, judge.name, judge.revision, _GREETING, parameters, 0, PROBE)


def obeyed(outcome: Outcome) -> bool:
    """True when the judge said what it was forced to say."""
    return isinstance(outcome, Reply) and outcome.text.strip() == _FORCED

"""A span for the calls that were made together: what they were, their tokens and their cost; no prompt, no reply."""

from collections.abc import Sequence

from infra.models.budget import call_cost
from infra.models.protocol import Outcome, Reply, Request
from infra.recipe import Price
from infra.running.telemetry import Attributes, add_span


def add_call_spans(requests: Sequence[Request], outcomes: Sequence[Outcome], price: Price, started_ns: int) -> None:
    """A span for each kind of call, from `started_ns` (Unix time) to now, with what was paid for.

    Where OpenTelemetry has names for what models do, they are those names (`gen_ai.*`).
    """
    for kind in dict.fromkeys(request.kind for request in requests):
        of_kind = [outcome for request, outcome in zip(requests, outcomes, strict=True) if request.kind == kind]
        replies = [outcome for outcome in of_kind if isinstance(outcome, Reply)]
        paid = [reply for reply in replies if not reply.reused]
        prompt_tokens = sum(reply.prompt_tokens for reply in paid)
        completion_tokens = sum(reply.completion_tokens for reply in paid)
        attributes: Attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": next(request.model for request in requests if request.kind == kind),
            "gen_ai.usage.input_tokens": prompt_tokens,
            "gen_ai.usage.output_tokens": completion_tokens,
            "longmill.call.kind": kind,
            "longmill.calls.made": len(paid),
            "longmill.calls.reused": len(replies) - len(paid),
            "longmill.calls.failed": len(of_kind) - len(replies),
            "longmill.cost": call_cost(prompt_tokens, completion_tokens, price),
        }
        add_span(f"calls {kind}", started_ns, attributes)

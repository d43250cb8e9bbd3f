"""What the ledger gets of a call that has ended: its reply, or the refusal of its prompt; durable on return."""

import asyncio

from infra.models.completions import FINISHED
from infra.models.protocol import LedgerLike, Outcome, Reply, Request, SentCall, new_entry, parse_reply, reply_from
from infra.models.refusals.rules import recorded_body
from infra.models.sending.call_settings import RequestManner
from infra.models.sending.transport import Recordable, Refused
from infra.models.thinking import Reasoning


class Recorder:
    """Records the outcomes of a model's calls. `reasoning` is the recipe's key of the model."""

    def __init__(self, ledger: LedgerLike, manner: RequestManner, reasoning: Reasoning) -> None:
        self._ledger = ledger
        self._manner = manner
        self._reasoning: Reasoning = reasoning

    async def record_reply(self, call: Request | SentCall, result: Recordable, seconds: float) -> Reply:
        """The reply. Raises LedgerError."""
        completion = result.completion
        if completion.finish_reason not in FINISHED:
            self._manner.refusals.count_recorded(call.key)
        entry = new_entry(call, 200, result.raw, seconds, completion.prompt_tokens, completion.completion_tokens)
        await self._ledger.record(entry)
        return reply_from(call.key, completion, result.raw, False, self._reasoning)

    async def record_refusal(self, request: Request, url: str, result: Refused, seconds: float) -> Outcome:
        """The failure, of which the ledger knows what it depended on at the endpoint. Raises LedgerError."""
        body = self._manner.redact(recorded_body(result.raw))
        record = self._manner.refusals.to_record
        reply = await asyncio.to_thread(record, body, request.model, url, request.key)
        entry = new_entry(request, result.status, reply, seconds)
        await self._ledger.record(entry)
        return parse_reply(entry)

"""Requests, replies and failures as data. Parsing is pure, so it can be repeated for free.

A request's key is the sha256 of what decides its reply: model, revision, messages, sampling parameters and sample
index. The endpoint, the purpose (`kind`) and the context (`affinity`) are no part of it. The messages of a prompt are
encoded once, as canonical JSON; the same bytes are hashed and sent. A request goes to chat completions, or by another
route to a model that scores a conversation (see scores.py). The tools of a prompt are there to be read: a reply is
text. What it leaves out: streaming, and several choices in one reply.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from infra.canonical import canonical_json, fingerprint
from infra.errors import LedgerError
from infra.models.completions import FINISHED, UNKNOWN, BadReply, Completion, read_completion
from infra.models.refusals.rules import BAD_REQUEST, FAILED, classify_refusal, refusal_message
from infra.models.scores import read_scores
from infra.models.thinking import UNFINISHED, Reasoning, joined, split_thinking
from infra.models.tool_calls import json_text, request_messages

if TYPE_CHECKING:  # loaded where an entry is made, for it brings pyarrow, and many commands need none
    from infra.ledger import Entry

CHAT = "chat/completions"  # the route of requests for text
TEXT = "text"  # the role of a message that is no turn: a classifier's input, which no chat template touches


@dataclass(frozen=True, slots=True)
class Prompt:
    """Chat messages {"role", "content"}, with tool calls and results as in tool_calls.py, and the tools that there are.
    Requests with the same messages should share one, which is encoded once."""

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    encoded: bytes = field(init=False, repr=False, compare=False)  # canonical JSON of the messages
    encoded_tools: bytes = field(init=False, repr=False, compare=False)  # JSON, its keys in their order; b"" for none
    digest: str = field(init=False, repr=False, compare=False)  # sha256 of both

    def __post_init__(self) -> None:
        encoded = canonical_json(request_messages(self.messages))
        encoded_tools = json_text(list(self.tools)).encode() if self.tools else b""
        object.__setattr__(self, "encoded", encoded)
        object.__setattr__(self, "encoded_tools", encoded_tools)
        object.__setattr__(self, "digest", hashlib.sha256(encoded + encoded_tools).hexdigest())

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, slots=True)
class Request:
    """What one call sends. `parameters` are all sampling parameters: temperature, top_p, max_tokens, seed, ..."""

    kind: str  # what the call is for: "sample", "greedy", "helpfulness", ...; calls are counted by it
    model: str
    revision: str
    prompt: Prompt
    parameters: Mapping[str, Any]
    sample_index: int
    affinity: str  # context_id: requests with the same one are sent together, to one endpoint
    route: str = CHAT  # what the endpoint is asked for
    has_alternative: bool = False  # the caller has another way where the server refuses the form: that is an outcome
    key: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        identity = {
            "model": self.model,
            "revision": self.revision,
            "messages": self.prompt.digest,
            "parameters": dict(self.parameters),
            "sample_index": self.sample_index,
        }
        if self.route != CHAT:
            identity["route"] = self.route
        object.__setattr__(self, "key", fingerprint(identity))

    def __hash__(self) -> int:
        return hash(self.key)

    def body(self, fields: Mapping[str, Any] | None = None, *, tool_choice: bool = True) -> bytes:
        """The JSON body to send, spliced around the prompt's bytes; with `fields` in place of the parameters.

        Without `tool_choice` the server may have the model call the prompt's tools.
        """
        if self.route == "score":  # it takes two texts, and no conversation
            first, second = (message["content"] for message in self.prompt.messages)
            return canonical_json({"model": self.model, "text_1": first, "text_2": second, **self.parameters})
        if self.route != CHAT and self.prompt.messages[0]["role"] == TEXT:
            text = self.prompt.messages[0]["content"]
            return canonical_json({"model": self.model, "input": text, **self.parameters})
        rest = canonical_json({"model": self.model, **(self.parameters if fields is None else fields)})
        tools = b""
        if self.prompt.tools:  # not to be called; vLLM has them in the prompt all the same
            choice = b'"tool_choice":"none",' if tool_choice else b""
            tools = choice + b'"tools":' + self.prompt.encoded_tools + b","
        return b"".join((b'{"messages":', self.prompt.encoded, b",", tools, rest[1:]))


@dataclass(frozen=True, slots=True)
class SentCall:
    """What is known of a call whose request is no longer at hand: what the ledger keeps of it."""

    key: str
    kind: str
    model: str
    revision: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A completion. An empty one has text "", one cut at max_tokens has finish_reason "length".

    `text` is the answer without the model's thinking, unless the recipe keeps it. A reply that ended within its
    thinking has no text and finish_reason "unfinished_thinking".
    """

    key: str
    text: str
    finish_reason: str
    prompt_tokens: int  # as the server counts; 0 when it sends no count
    completion_tokens: int
    reused: bool  # from the ledger, or from a call that another request had started
    raw: str  # the JSON body
    thinking: str = ""  # what the model has thought before its answer
    reasoning_tokens: int = 0  # of completion_tokens, as the server counts; else the client's tokenizer, 0 without one
    special_tokens: int = 0  # that were cut from the end of the text
    thinking_in_text: bool = False  # the recipe keeps it there
    cached_tokens: int = 0  # of prompt_tokens: from the server's cache, as it counts; 0 when it sends no count

    @property
    def finished(self) -> bool:
        """Whether it ended by itself or at max_tokens: any other text is a fragment."""
        return self.finish_reason in FINISHED


@dataclass(frozen=True, slots=True)
class Failure:
    """A call without a completion.

    `reason` is "prompt_too_long", "content_filter" or "bad_request" when it is permanent: the same request would
    be refused again; "failed" where it was given up (`lost_calls.py`). Else it is what ended the last attempt:
    "timeout", "connection", "busy", "server_error" or "bad_reply".
    """

    key: str
    reason: str
    detail: str
    permanent: bool
    endpoint: str = ""  # URL that the last attempt went to


Outcome = Reply | Failure


class LedgerLike(Protocol):
    """What the client needs of a ledger."""

    def lookup(self, keys: Sequence[str]) -> Mapping[str, "Entry"]:
        """The entries that exist, by key."""
        ...

    def holds(self, keys: Sequence[str]) -> set[str]:
        """The keys that have an entry."""
        ...

    async def record(self, entry: "Entry") -> None:
        """Write an entry; returns when it is durable."""
        ...


def read_reply(raw: str | bytes, route: str) -> Completion:
    """Read the JSON that a route sends; scores have no text, and are read from the raw reply. Raises BadReply."""
    if route == CHAT:
        return read_completion(raw)
    try:
        return Completion("", "stop", read_scores(raw).prompt_tokens, 0)
    except ValueError as error:
        raise BadReply(f"/{route} sent no scores: {error}") from error


def reply_from(key: str, completion: Completion, raw: str, reused: bool, reasoning: Reasoning = "auto") -> Reply:
    """A completion as the reply to the request `key`. `reasoning` is the recipe's key of the model."""
    text, finish_reason = completion.text, completion.finish_reason
    parts = split_thinking(text, completion.reasoning, finish_reason == "length", reasoning == "always")
    if reasoning == "keep":
        text = joined(text, completion.reasoning)
    else:
        text = parts.answer
        if not parts.finished and finish_reason in (*FINISHED, UNKNOWN):
            finish_reason = UNFINISHED
    return Reply(
        key,
        text,
        finish_reason,
        completion.prompt_tokens,
        completion.completion_tokens,
        reused,
        raw,
        parts.thinking,
        completion.reasoning_tokens,
        completion.special_tokens,
        reasoning == "keep",
        completion.cached_tokens,
    )


def new_entry(
    call: Request | SentCall,
    status: int,
    reply: str,
    seconds: float,
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
) -> "Entry":
    """What the ledger keeps of a call that ends now: its reply, or a refusal of its prompt."""
    from infra.ledger import Entry

    return Entry(
        key=call.key,
        kind=call.kind,
        model=call.model,
        revision=call.revision,
        status=status,
        reply=reply,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        seconds=seconds,
        created=time.time(),
    )


def parse_reply(entry: "Entry", reasoning: Reasoning = "auto", route: str = CHAT) -> Outcome:
    """The outcome that a ledger entry holds. Raises LedgerError when its reply is none for such a request."""
    if entry.status != 200:
        refusal = classify_refusal(entry.status, entry.reply)
        reason = refusal.reason if refusal.subject == "prompt" else BAD_REQUEST
        if entry.status >= 500 and refusal.subject != "prompt":
            reason = FAILED
        return Failure(entry.key, reason, refusal_message(entry.reply), True)
    try:
        return reply_from(entry.key, read_reply(entry.reply, route), entry.reply, True, reasoning)
    except BadReply as error:
        raise LedgerError(
            f"ledger entry {entry.key} holds no reply of its kind: {error}; set its segment aside to pay for it again"
        ) from error

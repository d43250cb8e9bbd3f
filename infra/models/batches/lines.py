"""The lines of batch files: a request each in the file that goes up, an outcome each in those that come down.

A line's `custom_id` is the ledger key of its request: 64 characters, as many as the protocol allows. Outcomes come in
any order, some not at all.
"""

import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from infra.models.sending.transport import HttpResponse

MOST_LINES = 50_000  # of a file; the protocol's limit, like the next
MOST_BYTES = 200_000_000
NOT_RUN = frozenset({"batch_expired", "batch_cancelled", "request_timeout"})  # codes of lines that were not answered


@dataclass(frozen=True, slots=True)
class OutcomeLine:
    """What became of a request; `response` is None where the server has not worked on it."""

    key: str
    response: HttpResponse | None
    words: str = ""  # of the server, where there is no response


def route_of(url: str) -> str:
    """The path that a batch's requests name, for a base URL: /v1/chat/completions for .../v1."""
    version = urllib.parse.urlsplit(url).path.rstrip("/").rpartition("/")[2]
    return f"/{version}/chat/completions" if version else "/chat/completions"


def request_line(key: str, route: str, body: bytes) -> bytes:
    """A line of the file that goes up; `body` is that of a live request."""
    head = json.dumps({"custom_id": key, "method": "POST", "url": route})
    return head[:-1].encode() + b', "body": ' + body + b"}\n"


def read_outcomes(file: BinaryIO) -> Iterator[OutcomeLine]:
    """The outcomes in a file that came down. A line that is none of a batch's is left out: its request is missing."""
    for line in file:
        try:
            parsed = json.loads(line)
            key = parsed["custom_id"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(key, str):
            yield _outcome(key, parsed)


def _outcome(key: str, line: dict[str, Any]) -> OutcomeLine:
    response, error = line.get("response"), line.get("error")
    status = response.get("status_code") if isinstance(response, dict) else None
    if isinstance(response, dict) and isinstance(status, int) and 200 <= status < 600:
        body = response.get("body")
        return OutcomeLine(key, HttpResponse(status, _bytes_of(body), {}))
    if isinstance(error, dict) and error.get("code") not in NOT_RUN:
        # An error in the place of a response: what it is about is decided by its words.
        return OutcomeLine(key, HttpResponse(_status_in(error), json.dumps({"error": error}).encode(), {}))
    words = error.get("message") or error.get("code") if isinstance(error, dict) else None
    return OutcomeLine(key, None, str(words or "it has no outcome"))


def _bytes_of(body: Any) -> bytes:
    """A body as a live response would have it."""
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(body).encode()


def _status_in(error: dict[str, Any]) -> int:
    """The status that an error's code names; 500, which passes, without one."""
    code = str(error.get("code"))
    return int(code) if code.isdigit() and 400 <= int(code) < 600 else 500

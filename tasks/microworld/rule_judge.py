"""The rule-based judge as a server: the embedded stand-in for a judge model, so that the demo needs none.

    python -m tasks.microworld.rule_judge --port 8001

It speaks the part of the OpenAI protocol that a judge needs, on loopback: chat completions with usage, the logprobs
of a rating's one token, and choices that constrain a reply. It reads terse prompts (`Task: STEP`, values between tags)
and replies by `rules.py`; it is no model and knows the generated world alone, and says so under its name, rule-based.
The same request gets the same reply. Leaves out: streaming, full prompts, sampling.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from infra.recipe import RULE_BASED
from tasks.microworld import rules

NAME = RULE_BASED
_TASK = re.compile(r"(?:Task: |任务：)(\S+)")
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])")  # a word or a mark, with the blanks before it
_LARGEST_BODY = 2**26  # bytes

# Each task's rule, and the tags that its values stand between, in the order of the rule's parameters.
_ABOUT = ("question", "answer")
_TEXTS: Mapping[str, tuple[Callable[..., str], tuple[str, ...]]] = {
    "notes": (rules.notes, ("document_part", "question")),
    "facts": (rules.facts, _ABOUT),
    "support": (rules.support, ("passages", "statement")),
    "pairwise": (rules.pairwise, ("question", "first_answer", "second_answer")),
}
_SUPPORTS = "supports"  # support, for several statements with a number each
_RATINGS: Mapping[str, tuple[Callable[..., float], tuple[str, ...]]] = {
    "helpfulness": (rules.helpfulness, _ABOUT),
    "logicality": (rules.logicality, _ABOUT),
    "completeness": (rules.completeness, ("notes", *_ABOUT)),
    "quality": (rules.quality, _ABOUT),
    "self-evaluation": (rules.self_evaluation, ("document", *_ABOUT)),
}


class Unreadable(ValueError):
    """A request that is none of the judge's tasks."""


@dataclass(frozen=True)
class Said:
    """A reply, and the probabilities of what its one token might have been where logprobs make sense."""

    text: str
    chances: Mapping[str, float] | None = None


def judge(prompt: str) -> Said:
    """The reply to a terse prompt. Raises Unreadable for any other text."""
    first_line = prompt.strip().partition("\n")[0]
    named = _TASK.fullmatch(first_line.strip())
    step = named.group(1) if named else ""
    expected = step.startswith("expected-")
    step = step.removeprefix("expected-")
    if step in _TEXTS and not expected:
        write, tags = _TEXTS[step]
        return Said(write(*(_between(prompt, tag) for tag in tags)))
    if step == _SUPPORTS and not expected:
        return Said(_supports(prompt))
    if step in _RATINGS:
        rate, tags = _RATINGS[step]
        rating = rate(*(_between(prompt, tag) for tag in tags))
        return _one_digit(rating * 0.9) if expected else Said(f"[[{math.floor(rating + 0.5)}]]")
    raise Unreadable(
        "this judge is no model: it replies by rules to prompts whose first line is `Task: STEP` "
        f"(judge.prompts: terse), with one of the steps {', '.join([*_TEXTS, _SUPPORTS, *_RATINGS])}; "
        f"this one begins with {first_line[:60]!r}"
    )


def complete(request: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completion to a request's body. Raises Unreadable."""
    try:
        prompt = str(request["messages"][-1]["content"])
    except (KeyError, IndexError, TypeError) as error:
        raise Unreadable("the request has no messages with a text") from error
    said = _constrained(prompt, request.get("structured_outputs") or {})
    tokens = _TOKEN.findall(said.text)
    limit = request.get("max_tokens") or len(tokens)
    text = said.text if len(tokens) <= limit else "".join(tokens[:limit])
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop" if len(tokens) <= limit else "length",
        "logprobs": _logprobs(said, int(request.get("top_logprobs") or 0)) if request.get("logprobs") else None,
    }
    used, written = len(_TOKEN.findall(prompt)), min(len(tokens), limit)
    return {
        "id": NAME,
        "object": "chat.completion",
        "created": 0,  # the same request, the same bytes
        "model": NAME,
        "choices": [choice],
        "usage": {"prompt_tokens": used, "completion_tokens": written, "total_tokens": used + written},
    }


def application() -> web.Application:
    """The server's routes."""
    app = web.Application(client_max_size=_LARGEST_BODY)
    app.router.add_get("/v1/models", _models)
    app.router.add_post("/v1/chat/completions", _chat)
    return app


def main() -> None:
    """Serve on loopback until the process is ended."""
    parser = argparse.ArgumentParser(description="Serve the rule-based judge of the generated world on 127.0.0.1.")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    port = parser.parse_args().port
    print(f"{NAME} judge (rules, no model) on http://127.0.0.1:{port}/v1", flush=True)
    web.run_app(application(), host="127.0.0.1", port=port, print=None, access_log=None)


async def _models(_: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": NAME, "object": "model", "owned_by": "longmill"}]})


async def _chat(request: web.Request) -> web.Response:
    try:
        body = json.loads(await request.read())
        return web.json_response(complete(body if isinstance(body, dict) else {}))
    except ValueError as error:  # Unreadable is one
        return web.json_response({"error": {"message": str(error), "type": "invalid_request_error"}}, status=400)


def _between(prompt: str, tag: str) -> str:
    """What the last pair of these tags holds; values cannot hold a tag themselves, because they are quoted."""
    start = prompt.rfind(f"<{tag}>")
    end = prompt.find(f"</{tag}>", start)
    if start < 0 or end < 0:
        raise Unreadable(f"the prompt has no <{tag}>…</{tag}>")
    return prompt[start + len(tag) + 2 : end].strip("\n")


def _supports(prompt: str) -> str:
    """A line with a number and a label for each numbered statement, judged by the passages with its number."""
    passages, statements = (dict(_numbered(tag).findall(prompt)) for tag in ("passages", "statement"))
    if not statements or passages.keys() != statements.keys():
        raise Unreadable("the prompt has no numbered <passages> and <statement> in pairs")
    return "\n".join(f"{each}. {rules.support(passages[each], statements[each])}" for each in statements)


def _numbered(tag: str) -> re.Pattern[str]:
    return re.compile(rf'<{tag} number="(\d+)">\n(.*?)\n</{tag}>', re.DOTALL)


def _constrained(prompt: str, structure: Mapping[str, Any]) -> Said:
    """The reply, made to have the form that is asked for, where one of its texts is known: a choice, or an expression
    that is plain text. Other expressions change nothing: ratings have their form already."""
    possible = [str(each) for each in structure.get("choice") or ()]
    if pattern := str(structure.get("regex") or ""):
        plain = re.sub(r"\\(\W)", r"\1", pattern)
        possible = [plain] if re.fullmatch(pattern, plain) else []
    if not possible:
        return judge(prompt)
    try:
        said = judge(prompt)
    except Unreadable:
        return Said(possible[0])
    return said if said.text in possible else Said(possible[0])


def _one_digit(mean: float) -> Said:
    """A digit 0 to 9, with chances whose mean is `mean`."""
    low = min(int(mean), 8)
    high = mean - low
    chances = {str(digit): chance for digit, chance in ((low, 1 - high), (low + 1, high)) if chance > 0}
    return Said(max(chances, key=chances.__getitem__), chances)


def _logprobs(said: Said, count: int) -> dict[str, Any]:
    """Logprobs in OpenAI's form: real for a rating's digit, sure of every token of other replies."""
    chances = [said.chances] if said.chances else [{token: 1.0} for token in _TOKEN.findall(said.text)]
    return {"content": [_logprob(each, count) for each in chances]}


def _logprob(chances: Mapping[str, float], count: int) -> dict[str, Any]:
    ordered = sorted(chances.items(), key=lambda each: -each[1])
    rows = [{"token": token, "logprob": math.log(p), "bytes": list(token.encode())} for token, p in ordered]
    return {**rows[0], "top_logprobs": rows[:count]}


if __name__ == "__main__":
    main()

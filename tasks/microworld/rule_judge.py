"""The rule-based judge as a server: it replaces a judge model where there is none, as in tests.

    python -m tasks.microworld.rule_judge --port 8001

On loopback it serves the part of the OpenAI protocol that a judge needs: chat completions with usage, the logprobs of a
rating of one token, and choices that constrain a reply. It reads terse prompts (`Task: STEP`, values between tags) and
replies by `rules.py`. It is no model, knows the generated world only, and calls itself rule-based. The same request
gets the same reply. There is no streaming and no sampling, and full prompts are not read.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from infra.errors import InputError
from infra.recipe import RULE_BASED
from tasks.microworld import question_rules, rules

NAME = RULE_BASED
_TASK = re.compile(r"(?:Task: |任务：)(\S+)")
_DOCUMENT = re.compile(r"<document>\n(.*?)\n</document>", re.DOTALL)
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])")  # a word or a mark, with the blanks before it
_MAX_BODY_BYTES = 2**26

# The rule of each task, and the tags that its values stand between, in the order of the rule's parameters.
_TEXT_RULES: Mapping[str, tuple[Callable[..., str], tuple[str, ...]]] = {
    "notes": (rules.notes, ("document_part", "question")),
    "facts": (rules.facts, ("question", "answer")),
    "sentence-facts": (rules.sentence_facts, ("question", "answer")),
    "support": (rules.support, ("passages", "statement")),
    "pairwise": (rules.pairwise, ("question", "first_answer", "second_answer")),
    "self-evaluation-reference": (rules.same_answer, ("question", "first_answer", "second_answer")),
}
_SUPPORTS = "supports"  # the task support, for several numbered statements
_RATING_RULES: Mapping[str, tuple[Callable[..., float], tuple[str, ...]]] = {
    "helpfulness": (rules.helpfulness, ("question", "answer")),
    "logicality": (rules.logicality, ("question", "answer")),
    "completeness": (rules.completeness, ("notes", "question", "answer")),
    "quality": (rules.quality, ("question", "answer")),
    "self-evaluation": (rules.self_evaluation, ("document", "question", "answer")),
}


class UnknownTask(InputError):
    """A request that is none of the judge's tasks."""


@dataclass(frozen=True)
class JudgeReply:
    """The text of a reply. `probabilities` of the tokens that it might have been, where it is the digit of a rating."""

    text: str
    probabilities: Mapping[str, float] | None = None


def judge(prompt: str) -> JudgeReply:
    """The reply to a terse prompt. Raises UnknownTask for any other text."""
    first_line = prompt.strip().partition("\n")[0]
    task = _TASK.fullmatch(first_line.strip())
    step = task.group(1) if task else ""
    is_expected = step.startswith("expected-")
    step = step.removeprefix("expected-")
    if step in _TEXT_RULES and not is_expected:
        write, tags = _TEXT_RULES[step]
        return JudgeReply(write(*_values(prompt, tags)))
    if step == _SUPPORTS and not is_expected:
        return JudgeReply(_support_lines(prompt))
    if step.startswith("ask-") and not is_expected:
        return JudgeReply(_asking(step, prompt))
    if step in _RATING_RULES:
        rate, tags = _RATING_RULES[step]
        rating = rate(*_values(prompt, tags))
        return _digit_reply(rating * 0.9) if is_expected else JudgeReply(f"[[{math.floor(rating + 0.5)}]]")
    raise UnknownTask(
        "this judge is no model: it replies by rules to prompts whose first line is `Task: STEP` "
        f"(judge.prompts: terse), with one of the steps {', '.join([*_TEXT_RULES, _SUPPORTS, *_RATING_RULES])}; "
        f"this one begins with {first_line[:60]!r}"
    )


def complete(request: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completion for the body of a request. Raises UnknownTask."""
    try:
        prompt = str(request["messages"][-1]["content"])
    except (KeyError, IndexError, TypeError) as error:
        raise UnknownTask("the request has no messages with a text") from error
    reply = _constrained_reply(prompt, request.get("structured_outputs") or {})
    tokens = _TOKEN.findall(reply.text)
    max_tokens = request.get("max_tokens") or len(tokens)
    is_cut = len(tokens) > max_tokens
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(tokens[:max_tokens]) if is_cut else reply.text},
        "finish_reason": "length" if is_cut else "stop",
        "logprobs": _logprobs(reply, int(request.get("top_logprobs") or 0)) if request.get("logprobs") else None,
    }
    prompt_tokens, completion_tokens = len(_TOKEN.findall(prompt)), min(len(tokens), max_tokens)
    return {
        "id": NAME,
        "object": "chat.completion",
        "created": 0,  # the same request, the same bytes
        "model": NAME,
        "choices": [choice],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def application() -> web.Application:
    """The server's routes."""
    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app.router.add_get("/v1/models", _models)
    app.router.add_post("/v1/chat/completions", _chat_completions)
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


async def _chat_completions(request: web.Request) -> web.Response:
    try:
        body = json.loads(await request.read())
        return web.json_response(complete(body if isinstance(body, dict) else {}))
    except (ValueError, UnknownTask) as error:  # ValueError: no JSON
        return web.json_response({"error": {"message": str(error), "type": "invalid_request_error"}}, status=400)


def _values(prompt: str, tags: Iterable[str]) -> list[str]:
    return [_value(prompt, tag) for tag in tags]


def _value(prompt: str, tag: str) -> str:
    """What stands between the last pair of these tags. Values are quoted, so they hold no tag themselves."""
    start = prompt.rfind(f"<{tag}>")
    end = prompt.find(f"</{tag}>", start)
    if start < 0 or end < 0:
        raise UnknownTask(f"the prompt has no <{tag}>…</{tag}>")
    return prompt[start + len(tag) + 2 : end].strip("\n")


def _support_lines(prompt: str) -> str:
    """A line with number and label for each numbered statement, judged by the passages with the same number."""
    passages, statements = _numbered_values(prompt, "passages"), _numbered_values(prompt, "statement")
    if not statements or passages.keys() != statements.keys():
        raise UnknownTask("the prompt has no numbered <passages> and <statement> in pairs")
    lines = []
    for number, statement in statements.items():
        lines.append(f"{number}. {rules.support(passages[number], statement)}")
    return "\n".join(lines)


def _asking(step: str, prompt: str) -> str:
    """The reply where a question is written or checked."""
    documents = _DOCUMENT.findall(prompt)
    if step == "ask-write":
        return question_rules.write_question(_value(prompt, "kind"), documents)
    if step == "ask-answer":
        return question_rules.answer_question(documents, _value(prompt, "question"))
    if step == "ask-self-contained":
        return question_rules.is_self_contained(_value(prompt, "question"))
    raise UnknownTask(f"there is no rule for the task {step}")


def _numbered_values(prompt: str, tag: str) -> dict[str, str]:
    return dict(re.findall(rf'<{tag} number="(\d+)">\n(.*?)\n</{tag}>', prompt, re.DOTALL))


def _constrained_reply(prompt: str, structure: Mapping[str, Any]) -> JudgeReply:
    """The reply, in the form that the request asks for.

    A form counts where its possible texts are known: a choice, or an expression that is plain text. Other expressions
    change nothing, because ratings have their form already.
    """
    possible = list(map(str, structure.get("choice") or ()))
    pattern = str(structure.get("regex") or "")
    if pattern:
        text = re.sub(r"\\(\W)", r"\1", pattern)
        possible = [text] if re.fullmatch(pattern, text) else []
    if not possible:
        return judge(prompt)
    try:
        reply = judge(prompt)
    except UnknownTask:
        return JudgeReply(possible[0])
    return reply if reply.text in possible else JudgeReply(possible[0])


def _digit_reply(mean: float) -> JudgeReply:
    """A digit from 0 to 9, with probabilities of two digits whose mean is `mean`."""
    low = min(int(mean), 8)
    probabilities: dict[str, float] = {}
    for digit, probability in ((low, 1 - (mean - low)), (low + 1, mean - low)):
        if probability > 0:
            probabilities[str(digit)] = probability
    return JudgeReply(max(probabilities, key=probabilities.__getitem__), probabilities)


def _logprobs(reply: JudgeReply, count: int) -> dict[str, Any]:
    """Logprobs in OpenAI's form: those of the rating's digit, or certainty for every token of any other reply."""
    if reply.probabilities:
        return {"content": [_token_logprobs(reply.probabilities, count)]}
    content = []
    for token in _TOKEN.findall(reply.text):
        content.append(_token_logprobs({token: 1.0}, count))
    return {"content": content}


def _token_logprobs(probabilities: Mapping[str, float], count: int) -> dict[str, Any]:
    rows = []
    for token in sorted(probabilities, key=probabilities.__getitem__, reverse=True):
        rows.append({"token": token, "logprob": math.log(probabilities[token]), "bytes": list(token.encode())})
    return {**rows[0], "top_logprobs": rows[:count]}


if __name__ == "__main__":
    main()

"""What a server's refusal says about a field that Longmill sends by itself, and the form of requests that it asks for.

Only these five fields are looked for: max_tokens, temperature, top_p, seed and tool_choice. A field that the recipe
gives under `parameters` is the user's own wish, so its refusal is shown and not mended. Pure: statuses and texts in, a
form out.

    max_tokens      not supported: sent as the name that the server names, or as max_completion_tokens
    temperature     not supported, or its default alone is: left out, the model's own decides
    top_p           not supported: left out; out of range, or not beside temperature: left out where it is 1
    seed            not supported: left out; out of range: folded into the range
    tool_choice     not supported, or not "none": left out; a reply that calls a tool is then no answer
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from infra.models.forms.request_form import TOOL_CHOICE, RequestForm
from infra.models.refusals.rules import classify_refusal

STATUSES = frozenset({400, 422})  # of refusals that can be about a field
INT32_MAX = 2**31 - 1
_WORDS = 160  # characters of the server's, in a line

_UNSUPPORTED = re.compile(
    r"not (?:supported|permitted|allowed|recogni[sz]ed|accepted|a valid|available)|n't (?:support|accept|allow)"
    r"|does not (?:support|accept|allow)|unsupported|unrecogni[sz]ed|unknown|unexpected"
    r"|extra[_ ](?:inputs|forbidden|field)|deprecated|only the default|不支持|未知",
    re.IGNORECASE,
)
_RANGE = re.compile(
    r"less than|greater than|at most|maximum|between|out of (?:the )?range|range of|int32|32[- ]bit|exceed|too large"
    r"|must be|[<≤>≥]|范围",
    re.IGNORECASE,
)
_NOT_BOTH = re.compile(r"\bboth\b|\btogether\b|only one|either", re.IGNORECASE)
_INSTEAD = re.compile(r"(?:use|try|with|by|to|did you mean)[ :]+[`'\"]?(max_\w*tokens|\w*_seed)[`'\"]?", re.IGNORECASE)
_BOUND = re.compile(
    r"(?:less than or equal to|at most|maximum(?: value)?(?: of| is)?|<=|≤|exceed|up to"
    r"|\[\s*-?\d+\s*,|between\s+-?\d+\s+and)\s*[:=]?\s*(\d+)",
    re.IGNORECASE,
)
_BELOW = re.compile(r"(?:less than|<)\s*(\d+)", re.IGNORECASE)


def form_after(form: RequestForm, sent: Mapping[str, Any], status: int, body: str) -> tuple[RequestForm, str] | None:
    """The form to send a refused request in, and what has changed, for a person; None when nothing can be settled.

    `sent` are the request's fields by Longmill's own names, `form` is how they were written.
    """
    refusal = classify_refusal(status, body)
    if status not in STATUSES or refusal.subject not in ("form", "unexplained"):
        return None
    changes: list[str] = []
    for name in ("max_tokens", "temperature", "top_p", "seed", TOOL_CHOICE):
        if name not in sent or name in form.omit:
            continue
        for clause in _clauses(body, refusal.words, form.rename.get(name, name)):
            change = _settle(form, name, sent, clause, body)
            if change is not None:
                form, words = change
                changes.append(words)
                break
    if not changes:
        return None
    words = refusal.words
    words = words if len(words) <= _WORDS else words[: _WORDS - 1] + "…"
    return form, f"{', '.join(changes)} (the server says: “{words}”)"


def _settle(
    form: RequestForm, name: str, sent: Mapping[str, Any], clause: str, body: str
) -> tuple[RequestForm, str] | None:
    """What one clause of a refusal asks for."""
    unsupported = _UNSUPPORTED.search(clause) is not None
    if name == "max_tokens":
        return _other_length(form, body) if unsupported else None
    if name == "seed":
        limit = _seed_limit(clause)
        if not unsupported and limit is not None and (form.seed_limit is None or limit < form.seed_limit):
            return replace(form, seed_limit=limit), f"seeds are folded into 0..{limit}"
        if unsupported or _RANGE.search(clause):
            return _without(form, name), "seed is left out, so that samples cannot be repeated"
        return None
    if name == TOOL_CHOICE:
        return _without(form, name), (
            "tool_choice is left out, so that a reply which calls a tool is a refused answer; contexts.tools: text "
            "sends no tools"
        )
    if name == "top_p" and sent["top_p"] == 1 and (_RANGE.search(clause) or _NOT_BOTH.search(clause)):
        return _without(form, name), "top_p is left out: 1 is no bound"
    if name == "temperature" and _NOT_BOTH.search(clause):
        return None  # top_p goes
    if unsupported:
        return _without(form, name), f"{name} is left out, the model's own decides"
    return None


def _other_length(form: RequestForm, body: str) -> tuple[RequestForm, str] | None:
    """Another name for max_tokens: a limit on the length must be sent."""
    if "max_tokens" in form.rename:
        return None  # one other name was tried
    instead = _INSTEAD.search(body)
    other = instead.group(1) if instead and instead.group(1) != "max_tokens" else "max_completion_tokens"
    return replace(form, rename={**form.rename, "max_tokens": other}), f"max_tokens is sent as {other}"


def _without(form: RequestForm, name: str) -> RequestForm:
    return replace(form, omit=form.omit | {name})


def _seed_limit(clause: str) -> int | None:
    """The largest seed that a clause names; None when it is no smaller than those that are sent."""
    if re.search(r"int32|32[- ]bit", clause, re.IGNORECASE):
        limit = INT32_MAX
    elif bound := _BOUND.search(clause):
        limit = int(bound.group(1))
    elif below := _BELOW.search(clause):
        limit = int(below.group(1)) - 1
    else:
        return None
    return limit if 0 < limit <= INT32_MAX else None


def _clauses(body: str, words: str, name: str) -> Iterator[str]:
    """The parts of an error that are about a field: details of its body with the field's name, else such sentences."""
    word = re.compile(rf"(?<![\w.]){re.escape(name)}(?!\w)")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    details = list(_details(parsed))
    if details:  # the server names its fields, so its sentences are not searched for others
        for field, text in details:
            if field == name:
                yield text
        return
    for sentence in re.split(r"(?<=[.!。;；])\s+|\}\s*,\s*\{", words):
        if word.search(sentence):
            yield sentence


def _details(value: Any) -> Iterator[tuple[str, str]]:
    """(field, text) of each error in a JSON body that names its field: OpenAI's `param`, pydantic's `loc`."""
    if isinstance(value, list):
        for member in value:
            yield from _details(member)
    if not isinstance(value, dict):
        return
    place = value.get("loc")
    name = place[-1] if isinstance(place, list) and place else value.get("param")
    if isinstance(name, str):
        texts = [str(value[key]) for key in ("type", "code", "msg", "message", "ctx") if value.get(key)]
        yield name, " ".join(texts)
    for member in value.values():
        yield from _details(member)

"""What a recipe may say about the requests to a model: further fields, other names of fields, headers."""

import re
from typing import Annotated

from pydantic import AfterValidator, JsonValue

from infra.canonical import canonical_json

OWN_FIELDS = ("max_tokens", "temperature", "top_p", "seed")  # what Longmill sets in every chat request

_LENGTH_KEY = "sampling.max_tokens, evaluation.max_tokens and the scorers' max_tokens (another name: `rename`)"
_RESERVED = {
    "model": "`name` sets it",
    "messages": "the prompts set it; a system prompt is `system`",
    "n": "sampling.samples sets how many answers there are, each from a call of its own",
    "stream": "replies are read whole",
    "stream_options": "replies are read whole",
    "seed": "the recipe's `seed` sets it; where the server takes none: `omit: [seed]`",
    "max_tokens": f"it is set by {_LENGTH_KEY}",
    "max_completion_tokens": f"it is set by {_LENGTH_KEY}",
    "temperature": "sampling.temperature, judge.temperature and judge.retry_temperature set it",
    "top_p": "sampling.top_p sets it; a judge has 1",
    "structured_outputs": "judge.structured sets it",
    "logprobs": "sampling.logprobs, and the scorers that read them, set it",
    "top_logprobs": "the scorers that read them set it",
    "tools": "a reply must be a text",
    "tool_choice": "a reply must be a text",
    "functions": "a reply must be a text",
    "extra_headers": "headers stand under `headers`",
    "api_key": "keys belong in the environment (`api_key_env`)",
}
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_HEADERS_OF_HTTP = {"content-type", "content-length", "content-encoding", "host", "accept", "transfer-encoding"}


def _check_parameters(parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for name, value in parameters.items():
        if name in _RESERVED:
            raise ValueError(f"{name} cannot be given here: {_RESERVED[name]}")
        # Only Gemini's endpoint reads a field of this name; every other server would ignore it in silence.
        if name == "extra_body" and not (isinstance(value, dict) and set(value) == {"google"}):
            raise ValueError("extra_body is the openai package's: write its fields here, without it")
        try:
            canonical_json(value)
        except ValueError as error:
            raise ValueError(f"{name} holds a number that JSON cannot write") from error
    return parameters


def _check_rename(rename: dict[str, str]) -> dict[str, str]:
    for name, other in rename.items():
        if name not in OWN_FIELDS:
            raise ValueError(f"{name} is not sent; fields that can have another name: {', '.join(OWN_FIELDS)}")
        if not _FIELD.fullmatch(other) or other in ("model", "messages", *OWN_FIELDS):
            raise ValueError(f"{name} cannot be sent as {other!r}")
    return rename


def _check_omit(omit: tuple[str, ...]) -> tuple[str, ...]:
    for name in omit:
        if name not in OWN_FIELDS:
            raise ValueError(f"{name} is not sent; fields that can be left out: {', '.join(OWN_FIELDS)}")
    return tuple(sorted(set(omit)))


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, variable in headers.items():
        if not _HEADER.fullmatch(name) or name.lower() in _HEADERS_OF_HTTP:
            raise ValueError(f"{name!r} cannot be set as a header")
        if not _VARIABLE.fullmatch(variable):  # the value is not repeated: it may be a secret
            raise ValueError(
                f"{name}: give the name of an environment variable that holds the value (capital letters, digits and "
                "'_'), never the value itself: recipes are stored"
            )
    return headers


Parameters = Annotated[dict[str, JsonValue], AfterValidator(_check_parameters)]
Rename = Annotated[dict[str, str], AfterValidator(_check_rename)]
Omit = Annotated[tuple[str, ...], AfterValidator(_check_omit)]
Headers = Annotated[dict[str, str], AfterValidator(_check_headers)]

"""How the requests to one model are written: what the recipe's keys of a model, and its server's refusals, make of it.

Two things are told apart. What a request asks for is `Request.parameters`, and part of its ledger key: the recipe's
further fields are in it, and what the recipe leaves out (`omit`) is not, since then the server's own value decides.
How it is written for a server is a `RequestForm`, and no part of the key: other names of fields, and no seed or a
smaller one. A seed names a draw of the same distribution, so it stays in the key whether the server gets it or not.
What a server turns out to refuse is left out by the form as well: which fields a model takes is a property of the
model, and its name is in the key.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.errors import PrerequisiteError
from infra.models.protocol import CHAT, Prompt, Request
from infra.recipe import Model

TOOL_CHOICE = "tool_choice"  # "none" in every request with tools, and no part of its key


def parameters_of(model: Model, own: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a request to a model: the recipe's further fields, and `own` without what is not sent."""
    parameters: dict[str, Any] = {**model.parameters, **own}
    for name in model.omit:
        if name != "seed":
            parameters.pop(name, None)
    return parameters


def prompt_for(model: Model, prompt: Prompt) -> Prompt:
    """The prompt with the model's system prompt before it."""
    if model.system is None:
        return prompt
    return Prompt(({"role": "system", "content": model.system}, *prompt.messages), prompt.tools)


def template_arguments(model: Model) -> dict[str, Any]:
    """What every request gives the model's chat template, such as enable_thinking."""
    arguments = model.parameters.get("chat_template_kwargs")
    return dict(arguments) if isinstance(arguments, Mapping) else {}


def sent_fields(request: Request) -> dict[str, Any]:
    """The fields of a request that Longmill's own names stand for: its parameters, and what goes with its tools."""
    choice = {TOOL_CHOICE: "none"} if request.prompt.tools else {}
    return {**request.parameters, **choice}


@dataclass(frozen=True, slots=True)
class RequestForm:
    """How the parameters of a request are written for a server."""

    rename: Mapping[str, str] = field(default_factory=dict)
    omit: frozenset[str] = frozenset()
    seed_limit: int | None = None  # largest seed that the server takes

    @classmethod
    def of(cls, model: Model) -> "RequestForm":
        """The form that the recipe gives."""
        return cls(dict(model.rename), frozenset(model.omit))

    def joined(self, later: "RequestForm") -> "RequestForm":
        """What both forms ask for; of two names of a field the later one's."""
        limits = [limit for limit in (self.seed_limit, later.seed_limit) if limit is not None]
        rename = {**self.rename, **later.rename}
        return RequestForm(rename, self.omit | later.omit, min(limits, default=None))

    def body(self, request: Request) -> bytes:
        """The JSON body to send."""
        if request.route != CHAT or not (self.rename or self.omit or self.seed_limit is not None):
            return request.body()
        fields: dict[str, Any] = {}
        for name, value in request.parameters.items():
            if name in self.omit:
                continue
            if name == "seed" and self.seed_limit is not None:
                value %= self.seed_limit + 1
            fields[self.rename.get(name, name)] = value
        return request.body(fields, tool_choice=TOOL_CHOICE not in self.omit)


def headers_of(model: Model, section: str) -> dict[str, str]:
    """The recipe's headers of a model, values from the environment. PrerequisiteError: one is missing, or no header."""
    headers: dict[str, str] = {}
    if model.organization is not None:
        headers["Openai-Organization"] = model.organization
    for name, variable in model.headers.items():
        value = os.environ.get(variable, "").strip()
        if not value:
            raise PrerequisiteError(f"{section}.headers: {name} needs the environment variable {variable}; set it")
        if not (value.isascii() and value.isprintable()):
            raise PrerequisiteError(
                f"{section}.headers: {variable} holds characters that no header can have; set it anew, without quotes "
                "and line ends"
            )
        headers[name.title()] = value  # spelled as the headers that it may replace
    return headers

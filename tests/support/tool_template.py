"""A chat template that knows tools, in the manner of Qwen's and Llama's, and histories that call them."""

import json
from pathlib import Path
from typing import Any

from infra.models.tokens import load_tokenizer

TOOL_TEMPLATE = (
    "{{ '<bos>' }}{% if tools %}{{ '<|user|>Tools:\n' }}{% for tool in tools %}{{ tool | tojson }}{{ '\n' }}"
    "{% endfor %}{% endif %}{% for message in messages %}{% if message.role == 'assistant' %}"
    "{{ '<|assistant|>' + message.content }}{% if 'tool_calls' in message %}{% for call in message.tool_calls %}"
    "{{ '<call>' }}{{ call.function | tojson }}{{ ' ' + call.function.name + ' ' }}"
    "{{ call.function.arguments | tojson }}{% endfor %}{% endif %}{{ '<eos>' }}{% elif message.role == 'tool' %}"
    "{{ '<|user|>Result of ' + message.tool_call_id + ': ' + message.content }}{% else %}"
    "{{ '<|user|>' + message.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}"
    "{% endif %}"
)
SCHEMAS = [
    {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Search the archive of the town.",
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
            "strict": True,
        },
    },
    {"name": "read", "parameters": {"type": "object", "properties": {"page": {"type": "integer"}}}},
]


def save_tool_tokenizer(folder: Path, template: str = TOOL_TEMPLATE, model: str = "microworld") -> str:
    """A model's tokenizer with a template that knows tools; returns its folder."""
    tokenizer = load_tokenizer(model)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return str(folder)


def call(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    """A call of OpenAI's form; arguments that are no text are written as JSON."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def asks(*calls: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    """A message of the model that calls tools."""
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def result(call_id: str, content: str) -> dict[str, Any]:
    """A result."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def trajectory(steps: int = 1, note: str = "") -> list[dict[str, Any]]:
    """An agent's trajectory: a request, steps of two calls at once and of one, and what the model says at last."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You look things up."},
        {"role": "user", "content": "When did the bridge open?"},
    ]
    for step in range(steps):
        messages += [
            asks(
                call(f"a{step}", "search", {"q": f"bridge {step}", "near": ["mill"]}),
                call(f"b{step}", "read", {"page": step}),
            ),
            result(f"b{step}", f"Page {step} is empty. {note}"),
            result(f"a{step}", f"The mill of step {step}. {note}"),
            asks(call(f"c{step}", "search", '{"q": "opening"}'), content=f"Next, step {step}."),
            result(f"c{step}", f'{{"year": {1900 + step}}}'),
        ]
    return [*messages, {"role": "assistant", "content": "It opened in 1901."}]

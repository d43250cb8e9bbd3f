"""Replies with status 200 in the ways that servers write them, as data: what the answer and a judge's rating become."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ReplyCase:
    """A body, and what it is: the ending, the answer's text ("" unless it is finished), its counts."""

    name: str
    body: dict[str, Any]
    ending: str
    text: str
    tokens: tuple[int, int] = (50, 12)
    thinking: str = ""
    cut: int = 0  # special tokens

    @property
    def raw(self) -> str:
        return json.dumps(self.body, ensure_ascii=False)


def reply(content: Any, ending: Any = "stop", usage: Any = "counts", **message: Any) -> dict[str, Any]:
    """A chat completion. `ending` "absent": without the field."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": ending}
    if ending == "absent":
        del choice["finish_reason"]
    body = {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}
    counts = {"prompt_tokens": 50, "completion_tokens": 12, "total_tokens": 62}
    return body if usage is None else body | {"usage": counts if usage == "counts" else usage}


def without_content(ending: str | None, **message: Any) -> dict[str, Any]:
    """A message that has no content at all, as Gemini sends it."""
    body = reply(None, ending, **message)
    del body["choices"][0]["message"]["content"]
    return body


SAID = "It is [[7]]"
CALL = [{"id": "1", "type": "function", "function": {"name": "search", "arguments": "{}"}}]
REFUSAL = "I'm sorry, I can't help with that."
PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": SAID}]
Case = ReplyCase

REPLIES = [
    Case("stop", reply(SAID), "stop", SAID),
    Case("length", reply(SAID, "length"), "length", SAID),
    Case("tgi eos", reply(SAID, "eos_token"), "stop", SAID),
    Case("anthropic stop", reply(SAID, "end_turn"), "stop", SAID),
    Case("gemini stop", reply(SAID, "STOP"), "stop", SAID),
    Case("gemini length", reply(SAID, "MAX_TOKENS"), "length", SAID),
    Case("mistral length", reply(SAID, "model_length"), "length", SAID),
    Case("zhipu window", reply(SAID, "model_context_window_exceeded"), "length", SAID),
    Case("error is null", reply(SAID) | {"error": None}, "stop", SAID),
    Case("refusal is null", reply(SAID, refusal=None, tool_calls=None), "stop", SAID),
    Case("refusal beside a text", reply(SAID, refusal="I would rather not."), "stop", SAID),
    Case("no calls", reply(SAID, tool_calls=[]), "stop", SAID),
    Case("more fields", reply(SAID, audio=None, annotations=[]) | {"system_fingerprint": "f", "x": {}}, "stop", SAID),
    Case("parts", reply(PARTS), "stop", SAID, thinking="hm"),
    Case("parts of text", reply([{"type": "text", "text": "It is "}, {"type": "text", "text": "[[7]]"}]), "stop", SAID),
    Case(
        "parts with a reference",
        reply([{"type": "text", "text": SAID}, {"type": "reference", "reference_ids": [1]}]),
        "stop",
        SAID,
    ),
    Case("parts as strings", reply(["It is ", "[[7]]"]), "stop", SAID),
    Case("parts of thinking alone", reply(PARTS[:1], "length"), "unfinished_thinking", "", thinking="hm"),
    Case(
        "anthropic thinking",
        reply([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": SAID}]),
        "stop",
        SAID,
        thinking="hm",
    ),
    Case("reasoning_content", reply(SAID, reasoning_content="hm"), "stop", SAID, thinking="hm"),
    Case("reasoning", reply(SAID, reasoning="hm"), "stop", SAID, thinking="hm"),
    Case("thinking alone", reply(None, "length", reasoning_content="hm"), "unfinished_thinking", "", thinking="hm"),
    Case("chatml", reply(f"{SAID}<|im_end|>"), "stop", SAID, cut=1),
    Case("llama 2", reply(f"{SAID}</s>"), "stop", SAID, cut=1),
    Case("llama 3", reply(f"{SAID}<|eot_id|>"), "stop", SAID, cut=1),
    Case("phi", reply(f"{SAID}<|end|>\n"), "stop", SAID, cut=1),
    Case("gemma", reply(f"{SAID}<end_of_turn>\n<eos>"), "stop", SAID, cut=2),
    Case("deepseek", reply(f"{SAID}<｜end▁of▁sentence｜>"), "stop", SAID, cut=1),
    Case("glm", reply(f"{SAID}\n<|user|>"), "stop", SAID, cut=1),
    Case("qwen twice", reply(f"{SAID}<|im_end|><|endoftext|>"), "stop", SAID, cut=2),
    Case("special tokens alone", reply("<|im_end|>"), "stop", "", cut=1),
    Case("special token within", reply(f"<|im_end|> {SAID}"), "stop", f"<|im_end|> {SAID}"),
    Case("struck out", reply(f"{SAID} <s>old</s>"), "stop", f"{SAID} <s>old</s>"),
    Case("html at the end", reply(f"{SAID} <b>now</b>"), "stop", f"{SAID} <b>now</b>"),
    Case("empty", reply(""), "stop", ""),
    Case("null", reply(None), "stop", ""),
    Case("blank", reply("  \n"), "stop", "  \n"),
    Case("no content", without_content("stop"), "stop", ""),
    Case("no content, cut", without_content("length"), "length", ""),
    Case("half a surrogate", reply(SAID + "\ud83c"), "stop", SAID + "\ufffd"),
    Case("no usage", reply(SAID, usage=None), "stop", SAID, (0, 0)),
    Case("null usage", reply(SAID, usage={"prompt_tokens": None, "completion_tokens": None}), "stop", SAID, (0, 0)),
    Case("usage as a list", reply(SAID, usage=[1]), "stop", SAID, (0, 0)),
    Case(
        "usage as text", reply(SAID, usage={"prompt_tokens": "50", "completion_tokens": "many"}), "stop", SAID, (50, 0)
    ),
    Case(
        "impossible usage", reply(SAID, usage={"prompt_tokens": -1, "completion_tokens": 10**30}), "stop", SAID, (0, 0)
    ),
    Case(
        "details as null",
        reply(SAID, usage={"prompt_tokens": 50, "completion_tokens": 12, "completion_tokens_details": None}),
        "stop",
        SAID,
    ),
    Case("vllm abort", reply("It is [[7", "abort"), "abort", ""),
    Case("abort that looks whole", reply(SAID, "abort"), "abort", ""),
    Case("error ending", reply(SAID, "error"), "error", ""),
    Case("zhipu network", reply(SAID, "network_error"), "error", ""),
    Case("deepseek resources", reply(SAID, "insufficient_system_resource"), "error", ""),
    Case("filtered text", reply(SAID, "content_filter"), "content_filter", ""),
    Case("zhipu filter", reply(SAID, "sensitive"), "content_filter", ""),
    Case("gemini filter", without_content("SAFETY"), "content_filter", ""),
    Case("tool call", reply(None, "tool_calls", tool_calls=CALL), "tool_calls", ""),
    Case("tool call that stops", reply(None, "stop", tool_calls=CALL), "tool_calls", ""),
    Case("tool call with text", reply(SAID, "tool_calls", tool_calls=CALL), "tool_calls", ""),
    Case("function call", reply(None, "function_call", function_call={"name": "f"}), "tool_calls", ""),
    Case("refusal", reply(None, "stop", refusal=REFUSAL), "refused", ""),
    Case("anthropic refusal", reply("", "refusal"), "refused", ""),
    Case("no ending", reply(SAID, None), "unknown", ""),
    Case("absent ending", reply(SAID, "absent"), "unknown", ""),
    Case("empty ending", reply(SAID, ""), "unknown", ""),
    Case("ending of another kind", reply(SAID, 3), "unknown", ""),
    Case("new ending", reply(SAID, "Paused: budget!"), "paused__budget_", ""),
]

"""The context in the prompt of a published pair, found by its hash.

A row of a dataset does not say where its context begins in the prompt. The passages and facts of its evidence are
offsets into the context, so the context must be found exactly: a text counts only when its hash is `context_id`.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from infra.canonical import text_id
from infra.models.special_tokens import restore_common_tokens
from tasks.prompts import load_prompt, prompt_names
from tasks.questions.chat import chat_text
from tasks.sample_prompt import CONTEXT_PLACE, TURN_GAP

_EDGE_LINES = 64  # of a prompt, before and after its context


def context_in(messages: Sequence[Mapping[str, str]], row: Mapping[str, Any]) -> str | None:
    """The context of a row of `pairs`, cut out of the messages of its prompt; None when it is nowhere in them.

    Where the user's and the model's earlier messages are the context, it is their canonical text, with their tool calls
    and the `tools` of the row.
    The prompt file of the row's strategy says where the context is. Where that file has changed since, the context is
    looked for between the lines at both ends of the prompt. Common special tokens, which a prompt has broken up, are
    put together again.
    """
    prompt = messages[-1]["content"]
    name = f"sample-{row['strategy']}"
    template = ""
    if name in prompt_names(row["language"]):
        template = load_prompt(name, row["language"]).text
    earlier = [message for message in messages[:-1] if message["role"] != "system"]
    if earlier:
        return _history(earlier, prompt, template, row)
    before, placeholder, after = template.partition(CONTEXT_PLACE)
    start = len(before.replace("{question}", row["question"]))
    end = len(prompt) - len(after.replace("{question}", row["question"]))
    for text in (prompt[start:end], restore_common_tokens(prompt[start:end])):
        if placeholder and text_id(text) == row["context_id"]:
            return text
    return _between_lines(prompt, row["context_id"])


def _history(earlier: Sequence[Mapping[str, str]], prompt: str, template: str, row: Mapping[str, Any]) -> str | None:
    """The canonical text of the messages before the question; the last message may hold one of them as well."""
    question_part = template.partition(CONTEXT_PLACE)[2].strip().replace("{question}", row["question"])
    last = prompt[: max(0, len(prompt) - len(question_part) - len(TURN_GAP))]
    for messages in (earlier, [*earlier, {"role": "user", "content": last}]):
        text = chat_text(messages, row["language"], row.get("tools") or ()).text
        for candidate in (text, restore_common_tokens(text)):
            if text_id(candidate) == row["context_id"]:
                return candidate
    return None


def _between_lines(prompt: str, context_id: str) -> str | None:
    """The whole lines of a prompt that have this hash, with at most _EDGE_LINES lines before and after them."""
    breaks = [match.start() for match in re.finditer("\n", prompt)]
    starts = [0]
    for position in breaks[:_EDGE_LINES]:
        starts.append(position + 1)
    ends = [*breaks[-_EDGE_LINES:], len(prompt)]
    for start in starts:
        digest = hashlib.sha256()
        hashed = start  # the digest is of prompt[start:hashed], and grows from end to end
        for end in ends:
            if end > start:
                digest.update(prompt[hashed:end].encode("utf-8", "surrogatepass"))
                hashed = end
                if digest.hexdigest() == context_id:
                    return prompt[start:end]
    return None

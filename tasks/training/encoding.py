"""The token ids of a question: its texts are text, whatever special tokens they hold.

A row is one string for the tokenizer, because tokens may join the template's characters and a text's. Where a text
holds a special token (or a tag of thinking), a character of Unicode's private use stands for it while the template is
rendered, so that the template neither cuts the text there nor finds a token in it. The string is then encoded by a copy
of the tokenizer in which every special token is called by another private character: it finds the tokens that the
template wrote, and reads those of the text as the letters that they are. Private characters that a question's own texts
have are not used for it. Rows without any special token are encoded as they are, all at once. Leaves out: such rows for
tokenizers that are no `tokenizer.json`; they are faults.
"""

import json
import re
from collections.abc import Container, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from infra.models.special_tokens import own_special_tokens, token_pattern
from infra.models.thinking import split_thinking
from infra.models.tokens import NO_ARGUMENTS, Tokenizer, renders_tool_calls
from infra.models.tool_calls import NO_TOOLS, Tools, change_message, change_tools
from tasks.training.answer_form import REASONING_FIELD, THINKING_TAGS, find_answer_form
from tasks.training.rendering import Messages, UnfitError, render

# Unicode's planes of private use: one for the tokens in texts, one for those of the template.
_IN_TEXTS, _OF_TEMPLATE = range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE)
_PRIVATE = re.compile("[\U000f0000-\U0010ffff]")
Row = str | list[int]  # a text that is to be encoded, or the ids of one that holds special tokens as text


class RowEncoder:
    """Renders and encodes questions for one base model."""

    def __init__(self, tokenizer: Tokenizer, arguments: Mapping[str, Any] = NO_ARGUMENTS) -> None:
        self.form = find_answer_form(tokenizer, arguments)
        self._tokenizer = tokenizer
        self._tokens = sorted(own_special_tokens(tokenizer))
        in_texts = {*self._tokens, *(tag for tags in THINKING_TAGS for tag in tags)}
        self._to_mark = sorted(in_texts)
        self._in_texts = token_pattern(in_texts)
        self._plain: _PlainTokenizer | None = None

    @cached_property
    def _renders_tool_calls(self) -> bool:
        return renders_tool_calls(self._tokenizer, self.form.arguments)

    def rows(self, name: str, prompt: Messages, answers: Sequence[Messages], tools: Tools = NO_TOOLS) -> list[Row]:
        """The prompt, and the prompt with each answer. `tools` are the prompt's.

        Thinking that stands in an answer's text is rendered as reasoning. Raises UnfitError for messages that cannot be
        rendered, and where a special token in a text cannot stay text.
        """
        calls_tools = bool(tools) or any("tool_calls" in message for message in prompt)
        if calls_tools and not self._renders_tool_calls:
            raise UnfitError(
                "template_without_tools",
                f"example {name}: the base model's chat template has no place for the tools and tool calls of the "
                "prompt; train a model whose template has one, or build with contexts.tools: text",
            )
        conversations = [list(prompt)]
        for answer in answers:
            conversations.append([_with_reasoning(message) for message in answer])
        texts = _texts(conversations, tools)
        if not any(map(self._in_texts.search, texts)):
            return list(render(name, conversations[0], conversations[1:], self._tokenizer, self.form, tools))
        used = {character for text in texts for character in _PRIVATE.findall(text)}
        marks = dict(zip(self._to_mark, _unused(name, _IN_TEXTS, len(self._to_mark), used), strict=True))

        def marked(text: str) -> str:
            return self._in_texts.sub(lambda match: marks[match.group()], text)

        messages = [[change_message(message, marked) for message in messages] for messages in conversations]
        rendered = render(name, messages[0], messages[1:], self._tokenizer, self.form, change_tools(tools, marked))
        tokens = {mark: token for token, mark in marks.items()}
        names = _unused(name, _OF_TEMPLATE, len(self._tokens), used)
        return [
            row if tokens.keys().isdisjoint(row) else self._encode_marked(name, row, tokens, names) for row in rendered
        ]

    def encode(self, rows: Sequence[Row]) -> list[list[int]]:
        """The token ids of rows; those that are no ids yet are encoded together, which uses all cores."""
        texts = [row for row in rows if isinstance(row, str)]
        # The template writes the special tokens itself; adding them again is the doubled BOS of SeaLong's code.
        encoded = iter(self._tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else ())
        return [next(encoded) if isinstance(row, str) else row for row in rows]

    def _encode_marked(self, name: str, row: str, tokens: Mapping[str, str], names: Sequence[str]) -> list[int]:
        """The ids of a row that has the marks of `tokens`; `names` are for the special tokens of the template."""
        if self._plain is None or self._plain.names != names:
            self._plain = _PlainTokenizer(self._tokenizer, self._tokens, names)
        ids = self._plain.encode(row, tokens)
        if ids is None:
            raise UnfitError(
                "special_token_in_text",
                f"example {name}: a text holds a special token of the base model, which its tokenizer cannot read as "
                "plain text; take it out",
            )
        return ids


def _texts(conversations: Sequence[Messages], tools: Tools) -> list[str]:
    """All texts of a question."""
    texts: list[str] = []

    def note(text: str) -> str:
        texts.append(text)
        return text

    change_tools(tools, note)
    for messages in conversations:
        for message in messages:
            change_message(message, note)
    return texts


def _unused(name: str, plane: range, count: int, used: Container[str]) -> list[str]:
    """The first characters of a plane that are not used. Raises UnfitError where there are too few."""
    unused = list(islice((chr(code) for code in plane if chr(code) not in used), count))
    if len(unused) < count:
        raise UnfitError(
            "special_token_in_text",
            f"example {name}: its texts hold a special token and nearly all characters of Unicode's private planes, "
            "which stand for such tokens here; take these characters out",
        )
    return unused


class _PlainTokenizer:
    """A copy of a tokenizer in which special tokens have private names; texts cannot hold these."""

    def __init__(self, tokenizer: Tokenizer, tokens: Sequence[str], names: Sequence[str]) -> None:
        self.names = names
        self._names = dict(zip(tokens, names, strict=True))
        self._ids = dict(zip(tokens, tokenizer.convert_tokens_to_ids(list(tokens)), strict=True))
        self._of_template = token_pattern(tokens)
        self._copy = _renamed(tokenizer, self._names)
        self._special = set(self._ids.values()) - {tokenizer.unk_token_id}

    def encode(self, text: str, tokens: Mapping[str, str]) -> list[int] | None:
        """The ids of a rendered text; None where a token in it would be a special one that the template did not
        write."""
        if self._copy is None:
            return None
        of_template, renamed = [], []
        end = 0
        for match in self._of_template.finditer(text):
            of_template.append(self._ids[match.group()])
            renamed += [text[end : match.start()], self._names[match.group()]]
            end = match.end()
        renamed.append(text[end:])
        plain = "".join(renamed).translate({ord(mark): token for mark, token in tokens.items()})
        ids: list[int] = self._copy.encode(plain, add_special_tokens=False).ids
        return ids if [token for token in ids if token in self._special] == of_template else None


def _renamed(tokenizer: Tokenizer, names: Mapping[str, str]) -> Any | None:
    """The tokenizer with other names of these tokens, in its vocabulary too; None where it is no `tokenizer.json`."""
    from tokenizers import Tokenizer as FastTokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    state = json.loads(backend.to_str())
    state["post_processor"] = None  # it adds tokens around a text, which the template writes
    for token in state["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = state["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(token, token): place for token, place in model["vocab"].items()}
    else:  # Unigram
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    try:
        return FastTokenizer.from_str(json.dumps(state))
    except Exception:  # the library has no other error: a merge or a processor names one of these tokens
        return None


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """An answer whose text begins with thinking, in two: templates render reasoning, and cut it out of a text."""
    if message["role"] != "assistant" or REASONING_FIELD in message:
        return message
    parts = split_thinking(message["content"], "", cut=False, always=False)
    if not parts.thinking or not parts.answer.strip():
        return message
    return {**message, "content": parts.answer, REASONING_FIELD: parts.thinking}

"""What a reward model reads: a conversation through its tokenizer's chat template, as token ids, of any length.

Training, scoring here and the stock classes of transformers read the same ids. Special tokens of the tokenizer are
broken up in every text, so that no document can end its turn and no answer begin another one. The conversations of a
question differ in their answers alone: `common_prefix` says how far they are the same. Nothing is cut.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from infra.errors import RecipeError
from infra.models.tokens import Tokenizer
from infra.recipe import Recipe
from tasks.records.example import Context, Example
from tasks.sampling import sample_prompt

Messages = Sequence[Mapping[str, str]]
_one_encodes = threading.Lock()  # a tokenizer that is told how to cut cannot be told by two threads at once


def question_messages(example: Example, context: Context | None, recipe: Recipe) -> list[dict[str, str]]:
    """The messages before the answer: the question alone, or with the whole context, as the policy was asked."""
    if context is None:
        return [{"role": "user", "content": example.question}]
    return [
        dict(message) for message in sample_prompt(example, context, recipe.sampling.strategy, recipe.policy).messages
    ]


class RewardEncoder:
    """Renders and encodes the conversations that one reward model reads."""

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        """`name` is the model's, for messages."""
        self._tokenizer = tokenizer
        self._name = name
        self._special = _special_tokens(tokenizer)

    def rows(self, prompt: Messages, answers: Sequence[str]) -> list[list[int]]:
        """The token ids of the conversation with each answer. Raises RecipeError when the chat template refuses it."""
        from jinja2 import TemplateError

        messages = [{**message, "content": self._plain(message["content"])} for message in prompt]
        texts = []
        for answer in answers:
            conversation = [*messages, {"role": "assistant", "content": self._plain(answer)}]
            try:
                texts.append(self._tokenizer.apply_chat_template(conversation, tokenize=False))
            except (TemplateError, ValueError) as error:
                raise RecipeError(
                    f"{self._name}: its chat template is of no use ({error}); take another model"
                ) from error
        if not texts:
            return []
        with _one_encodes:
            return list(self._tokenizer(texts, add_special_tokens=False, truncation=False)["input_ids"])

    def _plain(self, text: str) -> str:
        """The text with every special token broken up: it stays readable."""
        while self._special and (broken := self._special.sub(_broken_up, text)) != text:
            text = broken
        return text


def common_prefix(rows: Sequence[list[int]]) -> int:
    """How many tokens all rows begin with; every row has one more at least, and 0 where a row has one alone.

    The rows differ from one another.
    """
    length = 0
    limit = min(map(len, rows)) - 1
    first, last = min(rows), max(rows)  # what these share, all between them begin with
    while length < limit and first[length] == last[length]:
        length += 1
    return length


def _special_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    tokens = set()
    for token in tokenizer.added_tokens_decoder.values():
        text = str(token)
        if token.special and len(text) > 1 and not re.search(r"\s", text):
            tokens.add(text)
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _broken_up(match: re.Match[str]) -> str:
    return f"{match.group()[0]} {match.group()[1:]}"

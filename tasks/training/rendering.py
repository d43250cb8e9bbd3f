"""The texts of a question as the base model reads them: its messages through the tokenizer's own chat template.

Leaves out: tokens (gate.py).
"""

import itertools
from collections.abc import Iterable

from infra.models.tokens import Tokenizer

Messages = list[dict[str, str]]


class UnfitError(Exception):
    """A question that cannot be trained on: `reason` is a word to count it under, the text names it and the remedy."""

    def __init__(self, reason: str, fault: str) -> None:
        super().__init__(fault)
        self.reason = reason


def render(name: str, prompt: Messages, answers: Iterable[Messages], tokenizer: Tokenizer) -> list[str]:
    """The text of the prompt, and of the prompt with each answer.

    Raises UnfitError for messages that the chat template refuses, or renders in another way when an answer follows.
    """
    opening = _apply_template(name, prompt, tokenizer, add_generation_prompt=True)
    texts = [opening]
    for answer in answers:
        text = _apply_template(name, [*prompt, *answer], tokenizer)
        if not text.startswith(opening):
            raise UnfitError(
                "template_differs",
                f"example {name}: the base model's chat template renders the prompt differently when an "
                "answer follows, so training would not see what the model sees; give the tokenizer a template for "
                "training",
            )
        texts.append(text)
    return texts


def check_plain(name: str, prompt: Messages, answers: Iterable[Messages], tokenizer: Tokenizer) -> None:
    """Raises UnfitError for texts that a chat template was applied to before: they would have its tokens twice."""
    special = tuple(filter(None, tokenizer.all_special_tokens))
    for message in itertools.chain(prompt, *answers):
        text = message["content"].strip()
        if text.startswith(special) or text.endswith(special):
            raise UnfitError(
                "rendered_before",
                f"example {name}: a text begins or ends with a special token of the base model, so a chat template was "
                "applied to it before; give the texts without one",
            )


def _apply_template(name: str, messages: Messages, tokenizer: Tokenizer, add_generation_prompt: bool = False) -> str:
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt))
    except TemplateError as error:
        raise UnfitError(
            "template_refuses", f"example {name}: the base model's chat template refuses its messages ({error})"
        ) from error

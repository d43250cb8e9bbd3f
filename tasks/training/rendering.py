"""The texts of a question as the base model reads them: its messages through the tokenizer's own chat template.

Leaves out: tokens (encoding.py).
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from infra.models.tokens import Tokenizer, render_prompt
from infra.models.tool_calls import NO_TOOLS, Tools
from tasks.training.answer_form import REASONING_FIELD, AnswerForm

Messages = list[dict[str, Any]]


class UnfitError(Exception):
    """A question that cannot be trained on: `reason` is a word to count it under, the text names it and the remedy."""

    def __init__(self, reason: str, fault: str) -> None:
        super().__init__(fault)
        self.reason = reason


def render(
    name: str,
    prompt: Messages,
    answers: Sequence[Messages],
    tokenizer: Tokenizer,
    form: AnswerForm,
    tools: Tools = NO_TOOLS,
) -> list[str]:
    """The text of the prompt, and of the prompt with each answer. `tools` are the prompt's.

    The prompt is the generation prompt. What the template writes before an answer without reasoning is part of it,
    unless an answer has reasoning. Raises UnfitError for messages that the chat template refuses, renders in another
    way when an answer follows, or cuts.
    """
    opening = _apply(name, prompt, tokenizer, form, tools, opens_answer=True)
    with_reasoning = any(REASONING_FIELD in message for answer in answers for message in answer)
    texts = [opening if with_reasoning else opening + form.in_prompt]
    for answer in answers:
        text = _with_answer(name, prompt, answer, tokenizer, form, tools, opening)
        if not text.startswith(texts[0]):
            raise _differs(name)
        if answer[-1]["content"].strip() not in text[len(texts[0]) :]:
            raise UnfitError(
                "answer_changed",
                f"example {name}: the base model's chat template leaves out or changes a part of the answer; give the "
                "tokenizer a template for training",
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


def _with_answer(
    name: str, prompt: Messages, answer: Messages, tokenizer: Tokenizer, form: AnswerForm, tools: Tools, opening: str
) -> str:
    """The text of the prompt with an answer, which begins with the generation prompt `opening`."""
    base = opening.removesuffix(form.opened)
    reasoning = answer[-1].get(REASONING_FIELD)
    message = {key: value for key, value in answer[-1].items() if key != REASONING_FIELD}
    if reasoning is None or form.field is None:
        text = _apply(name, [*prompt, *answer[:-1], message], tokenizer, form, tools)
        if reasoning is None and not form.opened:
            return text
        before = base + (form.instead if form.opened else form.empty_block)
        first, last = form.tags
        if reasoning is None:
            block = form.in_prompt
        else:
            block = ("" if form.opened else f"{first}\n") + f"{reasoning.strip()}\n{last}\n\n"
        return opening + block + _after(name, before, text)
    text = _apply(name, [*prompt, *answer[:-1], {**message, form.field: reasoning}], tokenizer, form, tools)
    if form.field_opening is None or text.startswith(opening):
        return text
    return opening + _after(name, base + form.field_opening, text)


def _after(name: str, beginning: str, text: str) -> str:
    if not text.startswith(beginning):
        raise _differs(name)
    return text[len(beginning) :]


def _differs(name: str) -> UnfitError:
    return UnfitError(
        "template_differs",
        f"example {name}: the base model's chat template renders the prompt differently when an "
        "answer follows, so training would not see what the model sees; give the tokenizer a template for "
        "training",
    )


def _apply(
    name: str,
    messages: Messages,
    tokenizer: Tokenizer,
    form: AnswerForm,
    tools: Tools,
    *,
    opens_answer: bool = False,
) -> str:
    from jinja2 import TemplateError

    try:
        return render_prompt(messages, tokenizer, form.arguments, tools, opens_answer=opens_answer)
    except TemplateError as error:
        raise UnfitError(
            "template_refuses", f"example {name}: the base model's chat template refuses its messages ({error})"
        ) from error

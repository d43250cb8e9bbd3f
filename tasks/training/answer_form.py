"""How a base model's chat template writes an answer, with and without reasoning: seen by rendering a made-up row.

Templates of models that think treat an answer in ways that training has to agree with:

    Qwen3      an empty block of thinking stands before every answer that has no reasoning
    R1, QwQ    the generation prompt opens a block, and what an answer says up to `</think>` is left out
    others     an answer follows the generation prompt as it is

An empty block that the template writes is part of the prompt in training: no loss is on it. A block that the generation
prompt has opened is closed there, empty, for an answer without reasoning. Reasoning goes through the message field that
the template renders; where it renders none, it stands after the generation prompt between tags, as the model wrote it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.models.thinking import CLOSING, OPENING
from infra.models.tokens import NO_ARGUMENTS, Tokenizer, render_prompt

Tags = tuple[str, str]  # around the thinking
THINKING_TAGS: tuple[Tags, ...] = (
    (OPENING, CLOSING),
    ("[THINK]", "[/THINK]"),
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
)
REASONING_FIELD = "reasoning_content"  # of the messages that training reads
_FIELDS = (REASONING_FIELD, "reasoning", "thinking")  # that templates render
_QUESTION, _ANSWER, _REASONING = "What is the capital?", "It is Paris.", "The text names Paris."


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What stands between the generation prompt and an answer."""

    arguments: Mapping[str, Any]  # of the template, as in the requests
    tags: Tags = THINKING_TAGS[0]
    empty_block: str = ""  # that the template writes before an answer without reasoning
    opened: str = ""  # the end of the generation prompt that is a block, or opens one: no answer begins with it
    instead: str = ""  # what the template writes before an answer in the place of `opened`
    field: str | None = None  # the message's field of reasoning; None: the template renders none
    field_opening: str | None = None  # what it writes in the place of `opened` before reasoning; None: `opened`
    closing: str = ""  # what it writes after an answer

    @property
    def in_prompt(self) -> str:
        """What the prompt has after the generation prompt, where no answer of a question has reasoning."""
        if self.opened:
            return "" if self.tags[1] in self.opened else f"\n{self.tags[1]}\n\n"
        return self.empty_block

    def notes(self, trains_reasoning: bool) -> list[str]:
        """What training does that the generation prompt does not say, a sentence each."""
        notes = []
        if trains_reasoning and self.field is None:
            notes.append(
                "the chat template leaves reasoning out; it is trained after the generation prompt, between "
                f"{self.tags[0]} and {self.tags[1]}, as the model writes it"
            )
        if self.opened and self.in_prompt and not trains_reasoning:
            notes.append(
                f"the generation prompt opens a block of thinking ({self.opened.strip()}), and answers are trained "
                "without their reasoning: training's prompts have the block empty, without loss. training.reasoning: "
                "keep trains what the model thinks"
            )
        if self.empty_block and not trains_reasoning:
            notes.append(
                "the chat template writes an empty block of thinking before every answer, which the generation prompt "
                "does not have: training's prompts have it, without loss. For a policy that does not think, set "
                "policy.parameters.chat_template_kwargs ({enable_thinking: false}), so that sampling has it too; for "
                "one that thinks, training.reasoning: keep"
            )
        return notes


def find_answer_form(tokenizer: Tokenizer, arguments: Mapping[str, Any] = NO_ARGUMENTS) -> AnswerForm:
    """The form of a tokenizer's template; that of plain templates where a made-up row tells nothing."""
    from jinja2 import TemplateError

    question = [{"role": "user", "content": _QUESTION}]
    answer = {"role": "assistant", "content": _ANSWER}
    try:
        opening = render_prompt(question, tokenizer, arguments)
        whole = render_prompt([*question, answer], tokenizer, arguments, opens_answer=False)
    except TemplateError:
        return AnswerForm(arguments)  # the rows tell what it refuses
    place = whole.rfind(_ANSWER)
    if place < 0:
        return AnswerForm(arguments)
    tags = _tags_of(tokenizer, opening)
    opened, instead, empty_block = _without_reasoning(opening, whole[:place], tags)
    field, field_opening = None, None
    for name in _FIELDS:
        try:
            with_reasoning = [*question, {**answer, name: _REASONING}]
            rendered = render_prompt(with_reasoning, tokenizer, arguments, opens_answer=False)
        except TemplateError:
            continue
        start = rendered.find(_REASONING)
        if not 0 <= start < rendered.rfind(_ANSWER):
            continue
        base = opening.removesuffix(opened)
        if rendered.startswith(opening):
            field = name
        elif opened and rendered.startswith(base):
            field, field_opening = name, rendered[len(base) : start]
        if field is not None:
            break
    closing = whole[place + len(_ANSWER) :]
    return AnswerForm(arguments, tags, empty_block, opened, instead, field, field_opening, closing)


def _tags_of(tokenizer: Tokenizer, opening: str) -> Tags:
    """The tags that the generation prompt ends with, that the tokenizer has, or that the template names."""
    tokens = {token.content for token in tokenizer.added_tokens_decoder.values()}
    for tags in THINKING_TAGS:
        if opening.rstrip().endswith(tags):
            return tags
    for place in (tokens, str(tokenizer.chat_template)):
        for tags in THINKING_TAGS:
            if tags[0] in place:
                return tags
    return THINKING_TAGS[0]


def _without_reasoning(opening: str, head: str, tags: Tags) -> tuple[str, str, str]:
    """`opened`, `instead` and `empty_block` from the generation prompt and what the template writes up to an answer."""
    first, last = map(re.escape, tags)
    if head.startswith(opening):
        rest = head[len(opening) :]
        return "", "", rest if re.fullmatch(rf"\s*(?:{first}\s*)?{last}\s*", rest) else ""
    opens = re.search(rf"\s*{first}\s*(?:{last}\s*)?\Z", opening)
    if opens is None:
        return "", "", ""
    base = opening[: opens.start()]
    instead = head[len(base) :]
    if head.startswith(base) and re.fullmatch(rf"\s*(?:{first}\s*)?(?:{last}\s*)?", instead):
        return opens.group(), instead, ""
    return "", "", ""

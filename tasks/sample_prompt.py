"""The prompt of a question: what every answer is drawn with, and what a published pair has as its `prompt`.

A strategy is a prompt file `sample-STRATEGY.txt`; adding one is adding the file in each language. Special tokens in a
document or a question are broken up (infra/models/special_tokens.py).
"""

from collections.abc import Collection

from infra.models.client import Prompt
from infra.models.forms.request_form import prompt_for
from infra.models.special_tokens import NO_TOKENS, break_special_tokens
from infra.models.tool_calls import change_message, change_tools
from infra.recipe import Model
from tasks.prompts import PromptText, load_prompt
from tasks.records.example import Context, Example
from tasks.records.history import messages_of, tools_in

CONTEXT_PLACE = "{context}"  # in a prompt file
TURN_GAP = "\n\n"  # between the parts of one message


def sample_prompt_text(strategy: str, language: str) -> PromptText:
    """The prompt file of a sampling strategy."""
    return load_prompt(f"sample-{strategy}", language)


def sample_prompt(
    example: Example, context: Context | str, strategy: str, model: Model, special_tokens: Collection[str] = NO_TOKENS
) -> Prompt:
    """The messages that the model sees, by the prompt of a sampling strategy; those of the policy are also the `prompt`
    of a published pair. See `prompt_from`."""
    return prompt_from(sample_prompt_text(strategy, example.language), example, context, model, special_tokens)


def prompt_from(
    template: PromptText,
    example: Example,
    context: Context | str,
    model: Model,
    special_tokens: Collection[str] = NO_TOKENS,
) -> Prompt:
    """The messages that the model sees: its system prompt, if it has one, and one user message.

    A context of chat messages stays messages, with their tool calls and the tools that there were: then what the
    template has after the context is the last of them.
    `special_tokens`: what is broken up in context and question beside the common ones, as the plan has it.
    """
    question = break_special_tokens(example.question, special_tokens)
    if isinstance(context, Context) and context.span_roles is not None:
        return prompt_for(model, _history_prompt(context, template, question, special_tokens))
    text = context if isinstance(context, str) else context.text
    filled = template.render(context=break_special_tokens(text, special_tokens), question=question)
    return prompt_for(model, Prompt(({"role": "user", "content": filled},)))


def _history_prompt(context: Context, template: PromptText, question: str, special_tokens: Collection[str]) -> Prompt:
    """The messages of a context with its tools, and the question as the user's last message."""

    def broken(text: str) -> str:
        return break_special_tokens(text, special_tokens)

    messages = [change_message(message, broken) for message in messages_of(context)]
    text = template.after(CONTEXT_PLACE).render(question=question)
    if messages and messages[-1]["role"] == "user":  # chat templates want the roles by turns
        text = f"{messages.pop()['content']}{TURN_GAP}{text}"
    return Prompt((*messages, {"role": "user", "content": text}), change_tools(tools_in(context), broken))

"""What all builders of contexts share: a question with its context, exact counts, and drops.

Drops of stage "context": context_too_long (the supporting documents alone pass max_tokens), prompt_too_long (prompt +
longest answer pass the window), too_long_to_train (they pass training.max_length) and no_article (articles.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.canonical import seeded_random, text_id
from infra.models.forms.request_form import template_arguments
from infra.models.special_tokens import NO_TOKENS, find_special_tokens, own_special_tokens, special_tokens_of
from infra.models.tokens import Tokenizer, count_tokens, prompt_tokens
from infra.recipe import Contexts, Recipe
from tasks.planning.distractors import Pool
from tasks.planning.limits import PromptLimits
from tasks.planning.passages import Passages
from tasks.questions import RawQuestion
from tasks.records.example import Context, Document, Drop, Example
from tasks.sample_prompt import sample_prompt

LONG_CHARACTERS = 1_000_000  # a text from this length on is first counted roughly, because an exact count is slow
ROUGH = 1.05  # a rough count is at most this much too high

QuestionPassages = tuple[RawQuestion, Passages]  # a question and the text of its context


@dataclass(frozen=True, slots=True)
class Inputs:
    """What contexts are built from, beside the questions. `options` are the builder's own, checked."""

    recipe: Recipe
    tokenizer: Tokenizer
    pool: Pool
    limits: PromptLimits
    options: Any


@dataclass(frozen=True, slots=True)
class BuiltQuestion:
    """A question with its context. `short`: the pool had too little text for the target length. `sample_tokens`: prompt
    tokens of all its samples; None where each sees the whole context."""

    example: Example
    context: Context
    prompt_tokens: int
    short: bool = False
    special_tokens: frozenset[str] = NO_TOKENS  # in its question and context; the prompt has them broken up
    sample_tokens: int | None = None
    refused_tools: bool = False  # the chat template refuses its tool calls, which are text
    silent_turns: int = 0  # messages of its history that say nothing, which are left out


def target_tokens(settings: Contexts, seed: int, example_id: str) -> int:
    """The length a pooled context aims at: a multiple of step_tokens between min_tokens and max_tokens."""
    highest = settings.max_tokens // settings.step_tokens
    lowest = min(highest, math.ceil(settings.min_tokens / settings.step_tokens))
    return seeded_random(seed, "target", example_id).randint(lowest, highest) * settings.step_tokens


def built_question(
    question: RawQuestion, context: Context, prompt: int, short: bool, own: frozenset[str]
) -> BuiltQuestion:
    tokens = find_special_tokens(question.question, own) | find_special_tokens(context.text, own)
    return BuiltQuestion(example_of(question, context.context_id), context, prompt, short, tokens)


def count_contexts(questions: Sequence[QuestionPassages], inputs: Inputs) -> list[tuple[Context, int]]:
    """The context and the exact prompt tokens of each question; a context that repeats is counted once."""
    recipe, tokenizer = inputs.recipe, inputs.tokenizer
    ids: dict[str, str] = {}  # by text
    for _, passages in questions:
        if passages.text not in ids:
            ids[passages.text] = text_id(passages.text)
    tokens = dict(zip(ids, count_tokens(tokenizer, list(ids)), strict=True))
    contexts: list[Context] = []
    prompts, tools, counts = [], [], []
    own, arguments = own_tokens(recipe, tokenizer), template_arguments(recipe.policy)
    for question, passages in questions:
        text = passages.text
        spans = passages.starts, passages.ends, passages.titles
        context = Context(ids[text], text, tokens[text], *spans, passages.roles, passages.tool_use)
        contexts.append(context)
        example = example_of(question, context.context_id)
        prompt = sample_prompt(example, context, recipe.sampling.strategy, recipe.policy, own)
        prompts.append(prompt.messages)
        tools.append(prompt.tools)
        counts.append((text, tokens[text]))
    return list(zip(contexts, prompt_tokens(tokenizer, prompts, counts, arguments, tools), strict=True))


def own_tokens(recipe: Recipe, tokenizer: Tokenizer) -> frozenset[str]:
    """Special tokens of the models that answer: the policy, whose `tokenizer` it is, and the stronger model."""
    tokens = own_special_tokens(tokenizer)
    if recipe.strong is not None:
        tokens |= special_tokens_of(recipe.strong.tokenizer, recipe.strong.trust_remote_code)
    return tokens


def own_documents(question: RawQuestion) -> list[Document]:
    """All documents of the question's row."""
    return [*question.documents, *question.distractors]


def example_of(question: RawQuestion, context_id: str) -> Example:
    """The question as an example over a context."""
    return Example(
        question.example_id,
        question.question,
        context_id,
        question.references,
        question.kind,
        question.language,
        question.metadata,
    )


def context_too_long(question: RawQuestion, tokens: str, longest: int) -> Drop:
    """The drop of a question whose supporting documents have so many `tokens`, exactly or about."""
    detail = f"the supporting documents alone have {tokens} tokens; contexts.max_tokens is {longest}"
    return Drop(question.example_id, "context", "context_too_long", detail)

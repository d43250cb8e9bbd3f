"""Contexts that are drafted from documents and made to fit: supporting documents, and others until a target length.

A draft is made from rough sizes; then the context is counted exactly, and its last distractors go until it fits. The
target leaves room for the question, the prompt and the longest answer in the model's window and in a row of training.
A context is longer than its target only where the supporting documents alone are.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from infra.models.forms.request_form import template_arguments
from infra.models.tokens import prompt_tokens
from tasks.contexts.built import (
    LONG_CHARACTERS,
    ROUGH,
    BuiltQuestion,
    Inputs,
    built_question,
    context_too_long,
    count_contexts,
    example_of,
    own_documents,
    own_tokens,
    target_tokens,
)
from tasks.planning.passages import Passages, passage_tokens
from tasks.questions import RawQuestion
from tasks.records.example import Context, Document, Drop
from tasks.sample_prompt import sample_prompt

Sized = tuple[Document, int]  # a document, and about how many tokens it takes as a passage
Arrange = Callable[["Draft", Inputs], Passages]  # a draft's documents in their order, as one text


@dataclass(frozen=True, slots=True)
class Draft:
    """The documents of a context. The last distractor is taken out first. `short`: the target was not reached."""

    question: RawQuestion
    supporting: tuple[Sized, ...]
    distractors: tuple[Sized, ...]
    target: int
    short: bool


def with_targets(
    questions: Sequence[RawQuestion], inputs: Inputs
) -> Iterator[tuple[RawQuestion, dict[Document, int], int]]:
    """(question, about the tokens of each of its own documents, target length) for each question."""
    recipe, tokenizer = inputs.recipe, inputs.tokenizer
    documents: list[Document] = []
    prompts = []  # without a context, for the tokens of everything else
    tokens, arguments = own_tokens(recipe, tokenizer), template_arguments(recipe.policy)
    for question in questions:
        documents.extend(own_documents(question))
        example = example_of(question, "")
        prompts.append(sample_prompt(example, "", recipe.sampling.strategy, recipe.policy, tokens).messages)
    sizes = iter(passage_tokens(documents, tokenizer, recipe.contexts.passages))
    for question, overhead in zip(questions, prompt_tokens(tokenizer, prompts, (), arguments), strict=True):
        own = own_documents(question)
        own_sizes = dict(zip(own, itertools.islice(sizes, len(own)), strict=True))
        target = target_tokens(recipe.contexts, recipe.seed, question.example_id)
        yield question, own_sizes, min(target, inputs.limits.prompt - overhead)


def supporting_documents(question: RawQuestion, own_sizes: dict[Document, int]) -> tuple[Sized, ...]:
    """The supporting documents in reversed order, a repeated text once; the first of equal texts gives the title."""
    supporting: dict[str, Sized] = {}
    for document in reversed(question.documents):
        supporting[document.text] = (document, own_sizes[document])
    return tuple(supporting.values())


def fitted_drafts(drafts: Iterable[Draft], inputs: Inputs, arrange: Arrange) -> dict[str, BuiltQuestion | Drop]:
    """The outcomes of drafts, by example id."""
    longest = inputs.recipe.contexts.max_tokens
    own = own_tokens(inputs.recipe, inputs.tokenizer)
    outcomes: dict[str, BuiltQuestion | Drop] = {}
    to_fit: list[Draft] = []
    for draft in drafts:
        tokens = characters = 0
        for document, size in draft.supporting:
            tokens += size
            characters += len(document.text)
        if tokens > longest * ROUGH and characters > LONG_CHARACTERS:
            outcomes[draft.question.example_id] = context_too_long(draft.question, f"about {tokens}", longest)
        else:
            to_fit.append(draft)
    while to_fit:
        arranged = [(draft.question, arrange(draft, inputs)) for draft in to_fit]
        too_long = []
        for draft, (context, prompt) in zip(to_fit, count_contexts(arranged, inputs), strict=True):
            excess = max(context.tokens - draft.target, prompt - inputs.limits.prompt)
            if excess > 0 and draft.distractors:
                too_long.append(_without(draft, excess))
            else:
                outcomes[draft.question.example_id] = _settled(draft, context, prompt, inputs, own)
        to_fit = too_long
    return outcomes


def _settled(draft: Draft, context: Context, prompt: int, inputs: Inputs, own: frozenset[str]) -> BuiltQuestion | Drop:
    """The outcome of a draft that cannot get shorter, or fits."""
    question, longest = draft.question, inputs.recipe.contexts.max_tokens
    if context.tokens > longest:
        return context_too_long(question, str(context.tokens), longest)
    if prompt > inputs.limits.prompt:
        return inputs.limits.drop(question.example_id, prompt)
    return built_question(question, context, prompt, draft.short, own)


def _without(draft: Draft, excess: int) -> Draft:
    """The draft without its last distractors: as many as have `excess` tokens together, one at least."""
    distractors = list(draft.distractors)
    while distractors and excess > 0:
        _, tokens = distractors.pop()
        excess -= tokens
    return replace(draft, distractors=tuple(distractors))

"""Contexts: every question gets its long text, with exact token counts, or becomes a counted drop.

`given`: the row's own context, or its own documents as passages. `pooled`, as SeaLong builds it: a target of
randint(min, max) tokens in steps, the supporting documents, the row's own distractors and then distractors from the
pool until the next would pass the target; all of them shuffled and written as the recipe's passages. The target leaves
room for the question, the prompt and the longest answer in the model's window and in a row of training. A context is
longer than its target only where the supporting documents alone are. Every draw is seeded by the recipe's seed and the
example id, so a question's context is the same in any batch and in any process.

Drops of stage "context": context_too_long (the supporting documents alone pass max_tokens), prompt_too_long (prompt +
longest answer pass the window), too_long_to_train (they pass training.max_length) and no_article (articles.py). Memory
holds one batch of questions and the pool.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from infra.canonical import seeded_random, text_id
from infra.models.forms.request_form import template_arguments
from infra.models.special_tokens import NO_TOKENS, find_special_tokens, own_special_tokens, special_tokens_of
from infra.models.tokens import Tokenizer, count_tokens, prompt_tokens, rough_tokens
from infra.recipe import Contexts, Recipe
from tasks.planning.articles import title_key
from tasks.planning.distractors import Pool, articles_mode, draw
from tasks.planning.limits import PromptLimits
from tasks.planning.passages import Passages, passage_tokens, render
from tasks.questions import RawQuestion
from tasks.records.example import Context, Document, Drop, Example
from tasks.sampling import sample_prompt

_LONG_CHARACTERS = 1_000_000  # a text from this length on is first counted roughly, because an exact count is slow
_ROUGH = 1.05  # a rough count is at most this much too high
_MISSES = 8  # after so many documents that are too large for the rest of the target, the rest stays empty

QuestionPassages = tuple[RawQuestion, Passages]  # a question and the text of its context


@dataclass(frozen=True, slots=True)
class BuiltQuestion:
    """A question with its context. `short`: the pool had too little text for the target length."""

    example: Example
    context: Context
    prompt_tokens: int
    short: bool = False
    special_tokens: frozenset[str] = NO_TOKENS  # in its question and context; the prompt has them broken up


@dataclass(frozen=True, slots=True)
class _Draft:
    """The documents of a pooled context, each with its tokens as a passage. The last distractor is taken out first."""

    question: RawQuestion
    supporting: tuple[tuple[Document, int], ...]
    distractors: tuple[tuple[Document, int], ...]
    target: int
    short: bool


def build_batch(
    questions: Sequence[RawQuestion], recipe: Recipe, tokenizer: Tokenizer, pool: Pool, limits: PromptLimits
) -> list[BuiltQuestion | Drop]:
    """A BuiltQuestion or Drop for each question. It depends on the question alone, and not on the others."""
    if recipe.contexts.build == "pooled":
        outcomes = _pooled(questions, recipe, tokenizer, pool, limits)
    else:
        outcomes = _given(questions, recipe, tokenizer, limits)
    return [outcomes[question.example_id] for question in questions]


def target_tokens(settings: Contexts, seed: int, example_id: str) -> int:
    """The length a pooled context aims at: a multiple of step_tokens between min_tokens and max_tokens."""
    highest = settings.max_tokens // settings.step_tokens
    lowest = min(highest, math.ceil(settings.min_tokens / settings.step_tokens))
    return seeded_random(seed, "target", example_id).randint(lowest, highest) * settings.step_tokens


def _given(
    questions: Sequence[RawQuestion], recipe: Recipe, tokenizer: Tokenizer, limits: PromptLimits
) -> dict[str, BuiltQuestion | Drop]:
    """The outcomes, by example id, of questions that bring their context.

    A prompt that is far too long is not counted exactly.
    """
    own = own_tokens(recipe, tokenizer)
    outcomes: dict[str, BuiltQuestion | Drop] = {}
    to_count: list[QuestionPassages] = []
    for question in questions:
        passages = _given_passages(question, recipe)
        rough = 0
        if len(passages.text) > _LONG_CHARACTERS:
            rough = rough_tokens(tokenizer, [passages.text])[0]
        if rough > limits.prompt * _ROUGH:
            outcomes[question.example_id] = limits.drop(question.example_id, rough, rough=True)
        else:
            to_count.append((question, passages))
    for (question, _), (context, prompt) in zip(to_count, _count(to_count, recipe, tokenizer), strict=True):
        if prompt <= limits.prompt:
            outcomes[question.example_id] = _built(question, context, prompt, False, own)
        else:
            outcomes[question.example_id] = limits.drop(question.example_id, prompt)
    return outcomes


def _given_passages(question: RawQuestion, recipe: Recipe) -> Passages:
    text = question.context or ""
    if text.strip():
        return Passages(text, (0,), (len(text),), ("",))
    documents = _own(question)
    seeded_random(recipe.seed, "order", question.example_id).shuffle(documents)
    return render(documents, question.language, recipe.contexts.passages)


def _pooled(
    questions: Sequence[RawQuestion], recipe: Recipe, tokenizer: Tokenizer, pool: Pool, limits: PromptLimits
) -> dict[str, BuiltQuestion | Drop]:
    """The outcomes, by example id, of questions whose contexts are drawn.

    Every context is drafted from rough sizes; then it is counted exactly, and distractors go until it fits.
    """
    longest = recipe.contexts.max_tokens
    own = own_tokens(recipe, tokenizer)
    outcomes: dict[str, BuiltQuestion | Drop] = {}
    drafts: list[_Draft] = []
    for draft in _drafts(questions, recipe, tokenizer, pool, limits):
        tokens = characters = 0
        for document, size in draft.supporting:
            tokens += size
            characters += len(document.text)
        if tokens > longest * _ROUGH and characters > _LONG_CHARACTERS:
            outcomes[draft.question.example_id] = _context_too_long(draft.question, f"about {tokens}", longest)
        else:
            drafts.append(draft)
    while drafts:
        arranged = [_arranged(draft, recipe) for draft in drafts]
        counts = _count(arranged, recipe, tokenizer)
        too_long = []
        for draft, (context, prompt) in zip(drafts, counts, strict=True):
            excess = max(context.tokens - draft.target, prompt - limits.prompt)
            if excess > 0 and draft.distractors:
                too_long.append(_without(draft, excess))
            else:
                outcomes[draft.question.example_id] = _settled(draft, context, prompt, longest, limits, own)
        drafts = too_long
    return outcomes


def _settled(
    draft: _Draft, context: Context, prompt: int, longest: int, limits: PromptLimits, own: frozenset[str]
) -> BuiltQuestion | Drop:
    """The outcome of a draft that cannot get shorter, or fits."""
    question = draft.question
    if context.tokens > longest:
        return _context_too_long(question, str(context.tokens), longest)
    if prompt > limits.prompt:
        return limits.drop(question.example_id, prompt)
    return _built(question, context, prompt, draft.short, own)


def _built(question: RawQuestion, context: Context, prompt: int, short: bool, own: frozenset[str]) -> BuiltQuestion:
    tokens = find_special_tokens(question.question, own) | find_special_tokens(context.text, own)
    return BuiltQuestion(_example(question, context.context_id), context, prompt, short, tokens)


def _drafts(
    questions: Sequence[RawQuestion], recipe: Recipe, tokenizer: Tokenizer, pool: Pool, limits: PromptLimits
) -> Iterator[_Draft]:
    documents: list[Document] = []
    prompts = []  # without a context, for the tokens of everything else
    tokens, arguments = own_tokens(recipe, tokenizer), template_arguments(recipe.policy)
    for question in questions:
        documents.extend(_own(question))
        example = _example(question, "")
        prompts.append(sample_prompt(example, "", recipe.sampling.strategy, recipe.policy, tokens).messages)
    sizes = iter(passage_tokens(documents, tokenizer, recipe.contexts.passages))
    for question, overhead in zip(questions, prompt_tokens(tokenizer, prompts, (), arguments), strict=True):
        own = _own(question)
        own_sizes = dict(zip(own, itertools.islice(sizes, len(own)), strict=True))
        target = target_tokens(recipe.contexts, recipe.seed, question.example_id)
        target = min(target, limits.prompt - overhead)
        yield _draft(question, own_sizes, target, recipe, pool)


def _draft(question: RawQuestion, own_sizes: dict[Document, int], target: int, recipe: Recipe, pool: Pool) -> _Draft:
    """Supporting documents, then own distractors that fit, then the pool's until the target is reached."""
    rng = seeded_random(recipe.seed, "distractors", question.example_id)
    # By text, so that a repeated text comes once; reversed, so that the first of equal texts gives the title.
    supporting: dict[str, tuple[Document, int]] = {}
    for document in reversed(question.documents):
        supporting[document.text] = (document, own_sizes[document])
    left = target - sum(tokens for _, tokens in supporting.values())
    chosen: dict[str, tuple[Document, int]] = {}
    candidates = list(question.distractors)
    rng.shuffle(candidates)
    for document in candidates:
        if document.text not in supporting and document.text not in chosen and own_sizes[document] <= left:
            chosen[document.text] = (document, own_sizes[document])
            left -= own_sizes[document]
    own_texts = {document.text for document in _own(question)}
    own_titles = set()  # of articles: another text with the title of one is the same article once more
    if articles_mode(recipe) is not None:
        own_titles = {title_key(document.title) for document in _own(question)} - {""}
    misses = 0
    for index in draw(len(pool.documents), rng):
        document, tokens = pool.documents[index], pool.tokens[index]
        if document.text in own_texts or (own_titles and title_key(document.title) in own_titles):
            continue
        if tokens <= left:
            chosen[document.text] = (document, tokens)
            left -= tokens
            continue
        misses += 1
        if misses == _MISSES:
            break
    short = misses < _MISSES and left > recipe.contexts.step_tokens
    return _Draft(question, tuple(supporting.values())[::-1], tuple(chosen.values()), target, short)


def _without(draft: _Draft, excess: int) -> _Draft:
    """The draft without its last distractors: as many as have `excess` tokens together, one at least."""
    distractors = list(draft.distractors)
    while distractors and excess > 0:
        _, tokens = distractors.pop()
        excess -= tokens
    return replace(draft, distractors=tuple(distractors))


def _arranged(draft: _Draft, recipe: Recipe) -> QuestionPassages:
    documents = [document for document, _ in draft.supporting + draft.distractors]
    seeded_random(recipe.seed, "order", draft.question.example_id).shuffle(documents)
    return draft.question, render(documents, draft.question.language, recipe.contexts.passages)


def _count(questions: Sequence[QuestionPassages], recipe: Recipe, tokenizer: Tokenizer) -> list[tuple[Context, int]]:
    """The context and the exact prompt tokens of each question; a context that repeats is counted once."""
    ids: dict[str, str] = {}  # by text
    for _, passages in questions:
        if passages.text not in ids:
            ids[passages.text] = text_id(passages.text)
    tokens = dict(zip(ids, count_tokens(tokenizer, list(ids)), strict=True))
    contexts: list[Context] = []
    prompts, counts = [], []
    own, arguments = own_tokens(recipe, tokenizer), template_arguments(recipe.policy)
    for question, passages in questions:
        text = passages.text
        context = Context(ids[text], text, tokens[text], passages.starts, passages.ends, passages.titles)
        contexts.append(context)
        example = _example(question, context.context_id)
        prompts.append(sample_prompt(example, text, recipe.sampling.strategy, recipe.policy, own).messages)
        counts.append((text, tokens[text]))
    return list(zip(contexts, prompt_tokens(tokenizer, prompts, counts, arguments), strict=True))


def own_tokens(recipe: Recipe, tokenizer: Tokenizer) -> frozenset[str]:
    """Special tokens of the models that answer: the policy, whose `tokenizer` it is, and the stronger model."""
    tokens = own_special_tokens(tokenizer)
    if recipe.strong is not None:
        tokens |= special_tokens_of(recipe.strong.tokenizer, recipe.strong.trust_remote_code)
    return tokens


def _own(question: RawQuestion) -> list[Document]:
    """All documents of the question's row."""
    return [*question.documents, *question.distractors]


def _example(question: RawQuestion, context_id: str) -> Example:
    return Example(
        question.example_id,
        question.question,
        context_id,
        question.references,
        question.kind,
        question.language,
        question.metadata,
    )


def _context_too_long(question: RawQuestion, tokens: str, longest: int) -> Drop:
    detail = f"the supporting documents alone have {tokens} tokens; contexts.max_tokens is {longest}"
    return Drop(question.example_id, "context", "context_too_long", detail)

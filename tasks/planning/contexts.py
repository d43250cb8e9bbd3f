"""Contexts: every question gets its long text, with exact token counts, or becomes a counted drop.

`given`: the row's own context, or its own documents as passages. `pooled`, as SeaLong builds it: a target of
randint(min, max) tokens in steps, the supporting documents, the row's own distractors and then distractors
from the pool until the next would pass the target, shuffled and numbered. The target also leaves room for the
question, the prompt and the longest answer in the model's window; only supporting documents that are longer
than it take more. Every draw is seeded by the recipe's seed and the example id.

Drops of stage "context": context_too_long (the supporting documents alone pass max_tokens) and prompt_too_long
(prompt + longest answer pass the window). Memory holds one batch of questions and the pool.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from infra.canonical import seeded, text_id
from infra.models.tokens import Tokenizer, count_tokens, prompt_tokens, rough_tokens
from infra.recipe import Contexts, Questions, Recipe
from tasks.planning.distractors import Pool, draw, gather_pool
from tasks.planning.passages import Passages, passage_tokens, render
from tasks.questions import RawQuestion, read_questions
from tasks.records.example import Context, Document, Drop, Example
from tasks.sampling import sample_prompt

_BATCH_QUESTIONS = 32
_BATCH_CHARACTERS = 8_000_000
_BATCH_TOKENS = 2_000_000  # of pooled contexts made at once
_LONG_CHARACTERS = 1_000_000  # from here on a text is counted in pieces first,
_ROUGH = 1.05  # which is at least this close
_MISSES = 8  # so many documents may be too large for the space that is left before it is left empty

Outcome = RawQuestion | Drop
Asked = tuple[RawQuestion, Passages]


@dataclass(frozen=True, slots=True)
class Built:
    """A question with its context. `short`: the pool had too little text for the target length."""

    example: Example
    context: Context
    prompt_tokens: int
    short: bool = False


@dataclass(frozen=True, slots=True)
class _Draft:
    """A pooled context in the making; documents come with their sizes, the last distractor is the first to go."""

    question: RawQuestion
    supporting: tuple[tuple[Document, int], ...]
    distractors: tuple[tuple[Document, int], ...]
    target: int
    short: bool


def build_examples(
    recipe: Recipe, tokenizer: Tokenizer, questions: Questions | None = None, pool: Pool | None = None
) -> Iterator[Built | Drop]:
    """One Built or Drop for every row of `questions` (default: the recipe's), in the source's order.

    `pool` is the recipe's own when it is not given. Raises InputError for input that cannot be read.
    """
    settings = questions or recipe.questions
    pool = pool or gather_pool(recipe, settings, tokenizer)
    size = _BATCH_QUESTIONS
    if recipe.contexts.build == "pooled":
        size = max(1, min(size, _BATCH_TOKENS // recipe.contexts.max_tokens))
    for batch in _batches(read_questions(settings, recipe.contexts.build), size):
        asked = [each for each in batch if not isinstance(each, Drop)]
        if recipe.contexts.build == "pooled":
            results = iter(_pooled(asked, recipe, tokenizer, pool))
        else:
            results = iter(_given(asked, recipe, tokenizer))
        for outcome in batch:
            yield outcome if isinstance(outcome, Drop) else next(results)


def target_tokens(settings: Contexts, seed: int, example_id: str) -> int:
    """The length a pooled context aims at: a multiple of step_tokens between min_tokens and max_tokens."""
    highest = settings.max_tokens // settings.step_tokens
    lowest = min(highest, math.ceil(settings.min_tokens / settings.step_tokens))
    return seeded(seed, "target", example_id).randint(lowest, highest) * settings.step_tokens


def _given(questions: Sequence[RawQuestion], recipe: Recipe, tokenizer: Tokenizer) -> list[Built | Drop]:
    limit = _prompt_limit(recipe)
    results: dict[str, Built | Drop] = {}
    asked: list[Asked] = []
    for question in questions:
        passages = _given_passages(question, recipe.seed)
        about = rough_tokens(tokenizer, [passages.text])[0] if len(passages.text) > _LONG_CHARACTERS else 0
        if about > limit * _ROUGH:
            results[question.example_id] = _prompt_too_long(question, f"about {about}", limit)
        else:
            asked.append((question, passages))
    for (question, _), (context, prompt) in zip(asked, _count(asked, recipe, tokenizer), strict=True):
        results[question.example_id] = (
            Built(_example(question, context.context_id), context, prompt)
            if prompt <= limit
            else _prompt_too_long(question, str(prompt), limit)
        )
    return [results[question.example_id] for question in questions]


def _given_passages(question: RawQuestion, seed: int) -> Passages:
    text = question.context or ""
    if text.strip():
        return Passages(text, (0,), (len(text),), ("",))
    documents = _own(question)
    seeded(seed, "order", question.example_id).shuffle(documents)
    return render(documents, question.language)


def _pooled(questions: Sequence[RawQuestion], recipe: Recipe, tokenizer: Tokenizer, pool: Pool) -> list[Built | Drop]:
    """Draft every context from approximate sizes, then count exactly and take distractors away until it fits."""
    limit, longest = _prompt_limit(recipe), recipe.contexts.max_tokens
    results: dict[str, Built | Drop] = {}
    waiting = []
    for draft in _drafts(questions, recipe, tokenizer, pool):
        supporting = sum(tokens for _, tokens in draft.supporting)
        if supporting > longest * _ROUGH and sum(len(each.text) for each, _ in draft.supporting) > _LONG_CHARACTERS:
            results[draft.question.example_id] = _context_too_long(draft.question, f"about {supporting}", longest)
        else:
            waiting.append(draft)
    while waiting:
        counted = _count([_arranged(each, recipe.seed) for each in waiting], recipe, tokenizer)
        again = []
        for draft, (context, prompt) in zip(waiting, counted, strict=True):
            excess = max(context.tokens - draft.target, prompt - limit)
            if excess > 0 and draft.distractors:
                again.append(_without(draft, excess))
            else:
                results[draft.question.example_id] = _settled(draft, context, prompt, recipe)
        waiting = again
    return [results[each.example_id] for each in questions]


def _settled(draft: _Draft, context: Context, prompt: int, recipe: Recipe) -> Built | Drop:
    question, limit, longest = draft.question, _prompt_limit(recipe), recipe.contexts.max_tokens
    if context.tokens > longest:
        return _context_too_long(question, str(context.tokens), longest)
    if prompt > limit:
        return _prompt_too_long(question, str(prompt), limit)
    return Built(_example(question, context.context_id), context, prompt, draft.short)


def _drafts(questions: Sequence[RawQuestion], recipe: Recipe, tokenizer: Tokenizer, pool: Pool) -> Iterator[_Draft]:
    sizes = iter(passage_tokens([document for each in questions for document in _own(each)], tokenizer))
    strategy = recipe.sampling.strategy
    empty = [sample_prompt(_example(each, ""), "", strategy).messages for each in questions]
    for question, overhead in zip(questions, prompt_tokens(tokenizer, empty), strict=True):
        own = dict(zip(_own(question), itertools.islice(sizes, len(_own(question))), strict=True))
        target = target_tokens(recipe.contexts, recipe.seed, question.example_id)
        target = min(target, _prompt_limit(recipe) - overhead)
        yield _draft(question, own, target, recipe, pool)


def _draft(question: RawQuestion, own: dict[Document, int], target: int, recipe: Recipe, pool: Pool) -> _Draft:
    """Supporting documents, then own distractors that fit, then the pool's until the target is reached."""
    rng = seeded(recipe.seed, "distractors", question.example_id)
    supporting = {each.text: (each, own[each]) for each in reversed(question.documents)}
    left = target - sum(tokens for _, tokens in supporting.values())
    chosen: dict[str, tuple[Document, int]] = {}
    candidates = list(question.distractors)
    rng.shuffle(candidates)
    for document in candidates:
        if document.text not in supporting and document.text not in chosen and own[document] <= left:
            chosen[document.text] = (document, own[document])
            left -= own[document]
    taken = {each.text for each in _own(question)}
    misses = 0
    for index in draw(len(pool.documents), rng):
        document, tokens = pool.documents[index], pool.tokens[index]
        if document.text in taken:
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
    """The draft without as many of its last distractors as make up for `excess` tokens, one at least."""
    kept = list(draft.distractors)
    while kept and excess > 0:
        excess -= kept.pop()[1]
    return replace(draft, distractors=tuple(kept))


def _arranged(draft: _Draft, seed: int) -> Asked:
    documents = [document for document, _ in draft.supporting + draft.distractors]
    seeded(seed, "order", draft.question.example_id).shuffle(documents)
    return draft.question, render(documents, draft.question.language)


def _count(asked: Sequence[Asked], recipe: Recipe, tokenizer: Tokenizer) -> list[tuple[Context, int]]:
    """The context and the exact prompt tokens of each question; a context that repeats is counted once."""
    distinct = list(dict.fromkeys(passages.text for _, passages in asked))
    tokens = dict(zip(distinct, count_tokens(tokenizer, distinct), strict=True))
    ids = {text: text_id(text) for text in distinct}
    contexts = [
        Context(ids[each.text], each.text, tokens[each.text], each.starts, each.ends, each.titles) for _, each in asked
    ]
    prompts = [
        sample_prompt(_example(question, context.context_id), context.text, recipe.sampling.strategy).messages
        for (question, _), context in zip(asked, contexts, strict=True)
    ]
    counted = [(context.text, context.tokens) for context in contexts]
    return list(zip(contexts, prompt_tokens(tokenizer, prompts, counted), strict=True))


def _own(question: RawQuestion) -> list[Document]:
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


def _prompt_limit(recipe: Recipe) -> int:
    """The longest prompt that leaves room for the longest answer."""
    return recipe.policy.context_window - recipe.sampling.max_tokens


def _prompt_too_long(question: RawQuestion, tokens: str, limit: int) -> Drop:
    detail = f"the prompt has {tokens} tokens; beside the longest answer the model's window holds {limit}"
    return Drop(question.example_id, "context", "prompt_too_long", detail)


def _context_too_long(question: RawQuestion, tokens: str, longest: int) -> Drop:
    detail = f"the supporting documents alone have {tokens} tokens; contexts.max_tokens is {longest}"
    return Drop(question.example_id, "context", "context_too_long", detail)


def _batches(outcomes: Iterable[Outcome], questions: int) -> Iterator[list[Outcome]]:
    """Outcomes in batches of few questions and few characters."""
    batch: list[Outcome] = []
    characters = 0
    for outcome in outcomes:
        size = 0
        if not isinstance(outcome, Drop):
            size = len(outcome.context or "") + sum(len(document.text) for document in _own(outcome))
        if batch and (len(batch) == questions or characters + size > _BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(outcome)
        characters += size
    if batch:
        yield batch

"""`pooled`, as SeaLong builds it: supporting documents among distractors, up to a drawn length.

A target of randint(min, max) tokens in steps, the supporting documents, the row's own distractors and then distractors
from the pool until the next would pass the target; all of them shuffled and written as the recipe's passages.
"""

from collections.abc import Sequence

from infra.canonical import seeded_random
from tasks.contexts import ContextBuilder, Outcomes
from tasks.contexts.built import Inputs, own_documents
from tasks.contexts.drafts import Draft, Sized, fitted_drafts, supporting_documents, with_targets
from tasks.planning.articles import title_key
from tasks.planning.distractors import articles_mode, draw, gather_pool
from tasks.planning.passages import Passages, render
from tasks.questions import RawQuestion
from tasks.records.example import Document

_MISSES = 8  # after so many documents that are too large for the rest of the target, the rest stays empty


def build_pooled(questions: Sequence[RawQuestion], inputs: Inputs) -> Outcomes:
    """The outcomes of questions whose contexts are drawn."""
    drafts = (
        draft_with_distractors(question, own_sizes, target, inputs)
        for question, own_sizes, target in with_targets(questions, inputs)
    )
    return fitted_drafts(drafts, inputs, shuffled_passages)


def draft_with_distractors(question: RawQuestion, own_sizes: dict[Document, int], target: int, inputs: Inputs) -> Draft:
    """Supporting documents, then own distractors that fit, then the pool's until the target is reached."""
    recipe, pool = inputs.recipe, inputs.pool
    rng = seeded_random(recipe.seed, "distractors", question.example_id)
    supporting = supporting_documents(question, own_sizes)
    supporting_texts = {document.text for document, _ in supporting}
    left = target - sum(tokens for _, tokens in supporting)
    chosen: dict[str, Sized] = {}  # by text, so that a repeated text comes once
    candidates = list(question.distractors)
    rng.shuffle(candidates)
    for document in candidates:
        is_new = document.text not in supporting_texts and document.text not in chosen
        if is_new and own_sizes[document] <= left:
            chosen[document.text] = (document, own_sizes[document])
            left -= own_sizes[document]
    own_texts = {document.text for document in own_documents(question)}
    own_titles = set()  # of articles: another text with the title of one is the same article once more
    if articles_mode(recipe) is not None:
        own_titles = {title_key(document.title) for document in own_documents(question)} - {""}
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
    return Draft(question, supporting[::-1], tuple(chosen.values()), target, short)


def shuffled_passages(draft: Draft, inputs: Inputs) -> Passages:
    """All documents of a draft as passages, in an order drawn for the question."""
    return render(shuffled(draft, inputs), draft.question.language, inputs.recipe.contexts.passages)


def shuffled(draft: Draft, inputs: Inputs) -> list[Document]:
    """All documents of a draft, in an order drawn for the question."""
    documents = [document for document, _ in draft.supporting + draft.distractors]
    seeded_random(inputs.recipe.seed, "order", draft.question.example_id).shuffle(documents)
    return documents


BUILDER = ContextBuilder(
    "pooled",
    build_pooled,
    "supporting documents among distractors of a pool, up to a drawn length",
    reads="pooled",
    gather=gather_pool,
)

"""`document`: the whole documents that a question is about, and their neighbours in the source, up to a drawn length.

Neighbours are the documents before and after by the source's order, the nearest first, and the text keeps that order:
chapters, reports of a year, pages of a site stand as they do in the folder. The source is `contexts.pool` (rows
{title, text} in their order), else the recipe's `documents`, else the questions' own documents in theirs.
Of a source with more than NEIGHBOUR_BYTES of neighbours, the rest is left out with a warning.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from infra.canonical import text_id
from infra.recipe import Questions, Recipe
from infra.running import progress
from tasks.contexts import ContextBuilder, Outcomes
from tasks.contexts.built import Inputs
from tasks.contexts.drafts import Draft, Sized, fitted_drafts, supporting_documents, with_targets
from tasks.documents import SourceDocument, read_documents
from tasks.planning.distractors import Pool, own_documents, pool_file
from tasks.planning.passages import Passages, render
from tasks.questions import RawQuestion
from tasks.records.example import Document

NEIGHBOUR_BYTES = 256 << 20  # of text in memory
_CHARACTERS_PER_TOKEN = 6  # more than texts have: so much text on each side is surely enough

_Places = dict[str, int]  # by text, the place of a document in the source


def build_document(questions: Sequence[RawQuestion], inputs: Inputs) -> Outcomes:
    """The outcomes of questions about whole documents."""
    places: _Places = {}
    for place, document in enumerate(inputs.pool.documents):
        places.setdefault(document.text, place)

    def in_order(draft: Draft, _: Inputs) -> Passages:
        documents = [document for document, _ in draft.supporting + draft.distractors]
        documents.sort(key=lambda document: places.get(document.text, len(places)))
        return render(documents, draft.question.language, inputs.recipe.contexts.passages)

    drafts = []
    for question, own_sizes, target in with_targets(questions, inputs):
        drafts.append(_draft(question, own_sizes, target, inputs, places))
    return fitted_drafts(drafts, inputs, in_order)


def _draft(
    question: RawQuestion, own_sizes: dict[Document, int], target: int, inputs: Inputs, places: _Places
) -> Draft:
    """The question's documents, then their neighbours, nearest first, until the next would pass the target."""
    supporting = supporting_documents(question, own_sizes)
    own_texts = {document.text for document, _ in supporting}
    left = target - sum(tokens for _, tokens in supporting)
    own_places = [places[text] for text in own_texts if text in places]
    neighbours: list[Sized] = []
    for place in _nearest_first(own_places, len(inputs.pool.documents)):
        document, tokens = inputs.pool.documents[place], inputs.pool.tokens[place]
        if document.text in own_texts:
            continue
        if tokens > left:
            break
        own_texts.add(document.text)
        neighbours.append((document, tokens))
        left -= tokens
    short = left > inputs.recipe.contexts.step_tokens and len(own_texts) >= len(places)
    return Draft(question, supporting[::-1], tuple(neighbours), target, short)


def _nearest_first(own: Sequence[int], count: int) -> Iterator[int]:
    """All other places by their distance from the nearest of `own`, those after before those in front."""
    if not own:
        return
    taken = set(own)
    for distance in range(1, count):
        for place in sorted(own):
            for other in (place + distance, place - distance):
                if 0 <= other < count and other not in taken:
                    taken.add(other)
                    yield other
        if len(taken) == count:
            return


def gather_neighbours(recipe: Recipe, questions: Questions) -> Pool:
    """The documents of the source that stand near one of the questions' documents, in the source's order."""
    own_ids = {text_id(document.text) for document in own_documents(questions.model_copy(update={"limit": None}))}
    if recipe.contexts.pool:
        source: Iterable[Document] = pool_file(recipe.contexts.pool)
    elif recipe.documents is not None:
        source = _source_documents(recipe)
    else:
        source = own_documents(questions.model_copy(update={"limit": None}))
    neighbours, left_out = _near(source, own_ids, recipe.contexts.max_tokens * _CHARACTERS_PER_TOKEN)
    warnings = []
    if left_out:
        warnings.append(
            f"the documents near the questions' own have more than {NEIGHBOUR_BYTES >> 20} MiB of text: {left_out:,} "
            "of them are left out, and contexts may be shorter; plan fewer questions at once, or give a contexts.pool"
        )
    return Pool(tuple(neighbours), (), tuple(warnings))


def _source_documents(recipe: Recipe) -> Iterator[Document]:
    assert recipe.documents is not None
    for outcome in read_documents(recipe.documents):
        if isinstance(outcome, SourceDocument):
            yield Document(outcome.title, outcome.text)


def _near(source: Iterable[Document], own_ids: set[str], reach: int) -> tuple[list[Document], int]:
    """(documents within `reach` characters of an own one, in order; how many there was no room for)."""
    near: list[Document] = []
    before: deque[Document] = deque()
    waiting = after = size = left_out = 0  # characters of `before`, and those that are still wanted behind an own one
    for document in source:
        progress.advance("pool")
        if not document.text.strip():
            continue
        is_own = text_id(document.text) in own_ids
        if is_own:
            taken = [*before, document]
            before.clear()
            waiting, after = 0, reach
        elif after > 0:
            taken = [document]
            after -= len(document.text)
        else:
            taken = []
            before.append(document)
            waiting += len(document.text)
            while waiting > reach and len(before) > 1:
                waiting -= len(before.popleft().text)
        for neighbour in taken:
            size += len(neighbour.text.encode("utf-8", "surrogatepass"))
            if size > NEIGHBOUR_BYTES and neighbour is not document:
                left_out += 1
            else:
                near.append(neighbour)
    return near, left_out


BUILDER = ContextBuilder(
    "document",
    build_document,
    "the question's whole documents and their neighbours in the source",
    reads="pooled",
    gather=gather_neighbours,
)

"""`keychain`, after LoongRL (Wang et al., 2025): the question stands at the end of a chain of random keys in the text.

The context is a pooled one. Between its paragraphs there are lines {"KEY": "KEY"} and {"KEY": "a question"}, in any
order. One chain leads from the key that the new question names to the real question, the others to questions of other
rows. The answer to give is that of the real question, which is in the metadata as `keychain_question`. Keys are UUIDs
that depend on the seed and the example id.
"""

import json
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from infra.canonical import seeded_random
from infra.models.tokens import rough_tokens
from infra.recipe import Positive, Questions, Recipe, RecipeSection
from tasks.contexts import ContextBuilder, Outcomes
from tasks.contexts.built import Inputs
from tasks.contexts.drafts import Draft, fitted_drafts, with_targets
from tasks.contexts.pooled import draft_with_distractors, shuffled
from tasks.planning.distractors import Pool, gather_pool
from tasks.planning.passages import Passages, render
from tasks.questions import RawQuestion, read_questions
from tasks.questions.question import json_object, question_text
from tasks.records.example import Document, Drop

_MOST_QUESTIONS = 512  # of other rows that decoy chains lead to
_QUESTION_CHARACTERS = 1_000  # a longer question is no end of a decoy chain
METADATA = "keychain_question"


class KeychainOptions(RecipeSection):
    """Keys of `contexts.options`."""

    links: Positive = Field(4, description="keys of a chain before its question")
    decoys: Annotated[int, Field(ge=0)] = Field(3, description="chains that lead to questions of other rows")


@dataclass(frozen=True, slots=True)
class _Chains:
    """The lines of all chains, in the order in which they are placed, and the first key of the real one."""

    lines: tuple[str, ...]
    start: str


def build_keychain(questions: Sequence[RawQuestion], inputs: Inputs) -> Outcomes:
    """The outcomes of questions that stand at the end of chains."""
    chains: dict[str, _Chains] = {}
    hidden: list[RawQuestion] = []
    for question in questions:
        of_question = _chains(question, inputs)
        chains[question.example_id] = of_question
        metadata = {**json.loads(question.metadata), METADATA: question.question}
        text = question_text("keychain", question.language, key=of_question.start)
        hidden.append(replace(question, question=text, metadata=json_object(metadata)))
    texts = ["\n\n".join(chains[question.example_id].lines) for question in hidden]
    sizes = rough_tokens(inputs.tokenizer, texts)

    def drafts() -> Iterator[Draft]:
        for (question, own_sizes, target), size in zip(with_targets(hidden, inputs), sizes, strict=True):
            draft = draft_with_distractors(question, own_sizes, target - size, inputs)
            yield replace(draft, target=target)

    def arranged(draft: Draft, _: Inputs) -> Passages:
        question = draft.question
        rng = seeded_random(inputs.recipe.seed, "places", question.example_id)
        documents = with_lines(shuffled(draft, inputs), chains[question.example_id].lines, rng)
        return render(documents, question.language, inputs.recipe.contexts.passages)

    return fitted_drafts(drafts(), inputs, arranged)


def with_lines(documents: Sequence[Document], lines: Sequence[str], rng: random.Random) -> list[Document]:
    """The documents with each line as a paragraph of its own, behind a paragraph that is drawn."""
    paragraphs = [document.text.split("\n\n") for document in documents]
    places = []
    for number, of_document in enumerate(paragraphs):
        places += [(number, place) for place in range(len(of_document))]
    behind: dict[tuple[int, int], list[str]] = {}
    for line in lines:
        behind.setdefault(rng.choice(places), []).append(line)
    results = []
    for number, (document, of_document) in enumerate(zip(documents, paragraphs, strict=True)):
        parts: list[str] = []
        for place, paragraph in enumerate(of_document):
            parts += [paragraph, *behind.get((number, place), ())]
        results.append(Document(document.title, "\n\n".join(parts)))
    return results


def _chains(question: RawQuestion, inputs: Inputs) -> _Chains:
    options: KeychainOptions = inputs.options
    rng = seeded_random(inputs.recipe.seed, "keychain", question.example_id)
    others = [text for text in inputs.pool.questions if text != question.question]
    ends = [question.question, *rng.sample(others, min(options.decoys, len(others)))]
    lines = []
    start = ""
    for end in ends:
        keys = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(options.links)]
        start = start or keys[0]
        for key, value in zip(keys, [*keys[1:], end], strict=True):
            lines.append(json.dumps({key: value}, ensure_ascii=False))
    rng.shuffle(lines)
    return _Chains(tuple(lines), start)


def gather_with_questions(recipe: Recipe, questions: Questions) -> Pool:
    """The pool of pooled contexts, and a seeded sample of the source's questions."""
    texts: set[str] = set()
    for outcome in read_questions(questions.model_copy(update={"limit": None}), "pooled"):
        if not isinstance(outcome, Drop) and len(outcome.question) <= _QUESTION_CHARACTERS:
            texts.add(outcome.question)
    sample = sorted(texts)
    seeded_random(recipe.seed, "keychain questions").shuffle(sample)
    pool = gather_pool(recipe, questions)
    return replace(pool, questions=tuple(sample[:_MOST_QUESTIONS]))


BUILDER = ContextBuilder(
    "keychain",
    build_keychain,
    "as pooled, the question at the end of a chain of random keys (LoongRL)",
    reads="pooled",
    gather=gather_with_questions,
    options=KeychainOptions,
)

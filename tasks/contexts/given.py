"""`given`: the row's own context, or its own documents as passages, in an order drawn for the question."""

from collections.abc import Sequence

from infra.canonical import seeded_random
from infra.models.tokens import rough_tokens
from infra.recipe import Recipe
from tasks.contexts import ContextBuilder, Outcomes
from tasks.contexts.built import (
    LONG_CHARACTERS,
    ROUGH,
    Inputs,
    QuestionPassages,
    built_question,
    count_contexts,
    own_documents,
    own_tokens,
)
from tasks.planning.passages import Passages, render
from tasks.questions import RawQuestion


def build_given(questions: Sequence[RawQuestion], inputs: Inputs) -> Outcomes:
    """The outcomes of questions that bring their context. A prompt that is far too long is not counted exactly."""
    recipe, tokenizer, limits = inputs.recipe, inputs.tokenizer, inputs.limits
    own = own_tokens(recipe, tokenizer)
    outcomes: Outcomes = {}
    to_count: list[QuestionPassages] = []
    for question in questions:
        passages = _passages(question, recipe)
        rough = 0
        if len(passages.text) > LONG_CHARACTERS:
            rough = rough_tokens(tokenizer, [passages.text])[0]
        if rough > limits.prompt * ROUGH:
            outcomes[question.example_id] = limits.drop(question.example_id, rough, rough=True)
        else:
            to_count.append((question, passages))
    for (question, _), (context, prompt) in zip(to_count, count_contexts(to_count, inputs), strict=True):
        if prompt <= limits.prompt:
            outcomes[question.example_id] = built_question(question, context, prompt, False, own)
        else:
            outcomes[question.example_id] = limits.drop(question.example_id, prompt)
    return outcomes


def _passages(question: RawQuestion, recipe: Recipe) -> Passages:
    text = question.context or ""
    if text.strip():
        return Passages(text, (0,), (len(text),), ("",))
    documents = own_documents(question)
    seeded_random(recipe.seed, "order", question.example_id).shuffle(documents)
    return render(documents, question.language, recipe.contexts.passages)


BUILDER = ContextBuilder(
    "given", build_given, "the row's own context, or its documents as passages", reads="given", draws=False
)

"""`evidence`: some samples see the parts of the context that hold the answer alone, the others all of it.

LongPO (Chen et al. 2025, arXiv 2502.13922) prefers what a model says over a short text to what it says over the long
one that the text is part of. The parts are, in this order: messages or documents with a sentence that proves the answer
(`evidence` of the row, as `longmill ask` writes it); the supporting documents or sessions of the row. A document that
is longer than `document_tokens` stands there as the lines around its sentences, if it has any. A question without such
a part, or whose parts are no shorter than the context, is a drop: no_evidence.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from infra.errors import RecipeError
from infra.models.forms.request_form import template_arguments
from infra.models.tokens import Tokenizer, count_tokens, prompt_tokens
from infra.recipe import Recipe, RecipeSection
from infra.recipe.models import Positive
from tasks.contexts.built import own_tokens
from tasks.questions import RawQuestion
from tasks.questions.chat import chat_turns, message_text
from tasks.records.example import Answer, Context, Drop, Example
from tasks.sample_prompt import sample_prompt
from tasks.samplers import Sampler, View, sampler_options
from tasks.samplers.parts import Span, context_of_parts, message_spans

if TYPE_CHECKING:
    from tasks.contexts.built import BuiltQuestion, Inputs

NAME = "evidence"
NO_EVIDENCE = "no_evidence"  # reason of a drop


class EvidenceOptions(RecipeSection):
    """Keys of `sampling.options`."""

    share: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="share of the samples that see the evidence")
    document_tokens: Positive = Field(
        2048, description="a document that is longer is cut to the lines around its proof, about so long together"
    )


def sees_evidence(index: int, share: float) -> bool:
    """Whether a sample sees the evidence alone: spread evenly, so that more samples change none of the first."""
    return int((index + 1) * share + 1e-9) > int(index * share + 1e-9)


def views(
    example: Example, context: Context, recipe: Recipe, indices: Sequence[int], earlier: Sequence[Answer]
) -> list[View]:
    """The evidence for some, the whole context for the others."""
    if not indices:
        return []
    share = sampler_options(recipe).share
    evidence = View(short_context(example, context, recipe), NAME)
    return [evidence if sees_evidence(index, share) else View(context) for index in indices]


def short_context(example: Example, context: Context, recipe: Recipe) -> Context:
    """The parts of the context that hold the answer."""
    assert example.evidence_starts is not None and example.evidence_ends is not None  # of a plan of this sampler
    spans = list(zip(example.evidence_starts, example.evidence_ends, strict=True))
    return context_of_parts(context, spans, example.language, recipe.contexts.passages)


def prepare(question: RawQuestion, built: "BuiltQuestion", inputs: "Inputs") -> "BuiltQuestion | Drop":
    """The question with the places of its evidence, and the prompt tokens of all its samples."""
    recipe, tokenizer, context = inputs.recipe, inputs.tokenizer, built.context
    options: EvidenceOptions = sampler_options(recipe)
    if context.span_roles is None:
        spans = _parts_of_documents(question, context, options.document_tokens, tokenizer)
    else:
        spans = _messages(question, context)
    if not spans:
        return _drop(question, "no part of the context is known to hold the answer")
    example = replace(
        built.example,
        evidence_starts=tuple(start for start, _ in spans),
        evidence_ends=tuple(end for _, end in spans),
        whole_prompt_tokens=built.prompt_tokens,
    )
    short = short_context(example, context, recipe)
    own = own_tokens(recipe, tokenizer)
    prompt = sample_prompt(example, short, recipe.sampling.strategy, recipe.policy, own)
    (tokens,) = prompt_tokens(tokenizer, [prompt.messages], (), template_arguments(recipe.policy), [prompt.tools])
    if tokens >= built.prompt_tokens:
        return _drop(question, "the parts that hold the answer are no shorter than the whole context")
    short_samples = sum(sees_evidence(index, options.share) for index in range(recipe.sampling.samples))
    whole_samples = recipe.sampling.samples - short_samples
    sample_tokens = short_samples * tokens + whole_samples * built.prompt_tokens
    return replace(built, example=example, sample_tokens=sample_tokens)


def _drop(question: RawQuestion, detail: str) -> Drop:
    return Drop(question.example_id, "context", NO_EVIDENCE, detail)


def proof_sentences(metadata: str) -> list[str]:
    """The sentences that prove the answer, from a row's field `evidence`: texts, or objects with a `sentence`."""
    listed: Any = json.loads(metadata).get("evidence")
    sentences = []
    for entry in listed if isinstance(listed, list) else ():
        sentence = entry.get("sentence") if isinstance(entry, dict) else entry
        if isinstance(sentence, str) and sentence.strip():
            sentences.append(sentence)
    return sentences


def _parts_of_documents(question: RawQuestion, context: Context, longest: int, tokenizer: Tokenizer) -> list[Span]:
    texts = {document.text for document in question.documents}
    documents = []
    for start, end in zip(context.span_starts, context.span_ends, strict=True):
        if len(context.span_starts) == 1 or context.text[start:end] in texts:
            documents.append((start, end))
    proofs: dict[Span, list[Span]] = {}  # by document
    for sentence in proof_sentences(question.metadata):
        for start, end in documents:
            place = context.text.find(sentence, start, end)
            if place >= 0:
                proofs.setdefault((start, end), []).append((place, place + len(sentence)))
                break
    if len(context.span_starts) == 1 and not proofs:
        return []
    chosen = [document for document in documents if document in proofs] or documents
    sizes = count_tokens(tokenizer, [context.text[start:end] for start, end in chosen])
    parts: list[Span] = []
    for (start, end), tokens in zip(chosen, sizes, strict=True):
        if tokens <= longest or (start, end) not in proofs:
            parts.append((start, end))
        else:
            characters = (end - start) * longest // tokens
            parts += _around(context.text, (start, end), sorted(proofs[start, end]), characters)
    return parts


def _around(text: str, document: Span, proofs: Sequence[Span], characters: int) -> list[Span]:
    """The proofs with whole lines (else words) around them, about so many characters together; overlapping ones are
    one part."""
    room = max(0, characters - sum(end - start for start, end in proofs)) // (2 * len(proofs))
    parts: list[Span] = []
    for first, last in proofs:
        start, end = max(document[0], first - room), min(document[1], last + room)
        for border in ("\n", " "):
            after = text.find(border, start, first)
            if start > document[0] and after >= 0:
                start = after + 1
                break
        for border in ("\n", " "):
            before = text.rfind(border, last, end)
            if end < document[1] and before >= 0:
                end = before
                break
        if parts and start <= parts[-1][1]:
            parts[-1] = (parts[-1][0], max(end, parts[-1][1]))
        else:
            parts.append((start, end))
    return parts


def _messages(question: RawQuestion, context: Context) -> list[Span]:
    """The messages with a sentence of the proof, else those of the sessions that the answer needs; one of the model
    with that of the user before it."""
    spans = message_spans(context)
    texts_of_messages = [context.text[start:end] for start, end in spans]
    needed = _holding(texts_of_messages, proof_sentences(question.metadata))
    if not needed:
        texts: list[str] = []
        for session in question.sessions:
            if session.supports:
                turns = chat_turns(session, question.language, with_tools=context.tool_use is not None)
                texts += [message_text(turn.message, question.language) for turn in turns]
        needed = _holding(texts_of_messages, texts)
    roles = context.span_roles or ()
    for number in sorted(needed):
        if number and roles[number] == "assistant":
            needed.add(number - 1)
    return [spans[number] for number in sorted(needed)]


def _holding(texts_of_messages: Sequence[str], texts: Sequence[str]) -> set[int]:
    """The numbers of the messages that hold one of the texts."""
    return {number for number, own in enumerate(texts_of_messages) if any(text in own for text in texts)}


def check(recipe: Recipe) -> None:
    """Raises RecipeError where no sample would see the one or the other, and for chains of keys, which lead through
    the whole context."""
    share, samples = sampler_options(recipe).share, recipe.sampling.samples
    short = sum(sees_evidence(index, share) for index in range(samples))
    if not 0 < short < samples:
        raise RecipeError(
            f"sampling.options.share: of {samples} samples, {short} would see the evidence alone; some must, and some "
            "not: change the share, or raise sampling.samples"
        )
    if recipe.contexts.build == "keychain":
        raise RecipeError(
            "sampling.context: evidence does not go with contexts.build: keychain, whose questions need the whole chain"
        )


SAMPLER = Sampler(
    NAME,
    "for some samples the parts that hold the answer, for the others the whole context (LongPO)",
    views,
    prepare=prepare,
    options=EvidenceOptions,
    check=check,
    short=short_context,
)

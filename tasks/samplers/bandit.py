"""`bandit`: each sample sees some chunks of the context, chosen by the rewards of the samples before (LongMab-PO).

Duan et al. 2025, arXiv 2508.13993: the chunks of a context are the arms of a bandit. A sample sees the `chunks` arms
with the highest upper confidence bounds, value + sqrt(2 ln t / n), where t counts samples, this one included, and n
those that have seen the arm; an arm that none has seen comes before all others. A sample's reward goes to all arms that
it has seen: an arm's value is the mean of their rewards and of the value that it began with. As in the paper's code, of
which these are left out: the probe, an answer with reasons that a model writes from the reference and whose likeness
to a chunk is its first value. Here that is the share of the question's words in the chunk, or drawn.

Rewards come from the references, the mean of SubEM and token F1 as in the paper, or where a question has none (or with
reward: consensus) from how alike the final answers are. They choose arms and nothing else: which answers are a pair
is for scorers and the pairing rule; the scorer `references` gives the paper's rewards. Rounds of `per_round` samples
are drawn for all questions of a span together; within a round an arm counts as seen, and its value waits. Where a
context has no more than `chunks` chunks, a sample sees the whole of it.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from infra.canonical import seeded_random
from infra.models.tokens import load_tokenizer
from infra.recipe import Recipe, RecipeSection
from infra.recipe.models import Positive
from tasks.chunks import Span, cut_text
from tasks.metrics import final_answer, reference_reward, rouge_tokens, token_f1
from tasks.questions import RawQuestion
from tasks.records.example import Answer, Context, Drop, Example
from tasks.records.history import turn_starts
from tasks.samplers import Sampler, View, sampler_options
from tasks.samplers.parts import context_of_parts

if TYPE_CHECKING:
    from tasks.contexts.built import BuiltQuestion, Inputs

NAME = "bandit"
_SEEN = "chunks "  # and their numbers from 0, as "chunks 3 7": what an answer has seen
_DIGITS = 9  # of a bound: beyond them, machines differ
_CONTEXTS_REMEMBERED = 64


class BanditOptions(RecipeSection):
    """Keys of `sampling.options`."""

    chunk_tokens: Positive = Field(1500, description="longest chunk, in policy tokens")
    chunks: Positive = Field(4, description="chunks that a sample sees")
    per_round: Positive = Field(1, description="samples of a question that are drawn at once, by the same rewards")
    reward: Literal["references", "consensus"] = Field("references", description="what decides which chunks are good")
    start: Literal["question", "random"] = Field(
        "question", description="a chunk's first value: the share of the question's words that it has, or a draw"
    )


def rounds(recipe: Recipe) -> list[range]:
    """Sample indices of each round, `per_round` together."""
    samples, size = recipe.sampling.samples, sampler_options(recipe).per_round
    return [range(start, min(start + size, samples)) for start in range(0, samples, size)]


def views(
    example: Example, context: Context, recipe: Recipe, indices: Sequence[int], earlier: Sequence[Answer]
) -> list[View]:
    """For each sample of a round the chunks with the highest upper confidence bounds, in the order of the text."""
    if not indices:
        return []
    options: BanditOptions = sampler_options(recipe)
    spans = _chunks(context, options.chunk_tokens, recipe.policy.tokenizer, recipe.policy.trust_remote_code)
    if len(spans) <= options.chunks:
        return [View(context) for _ in indices]
    arms = _Arms(_first_values(example, context, spans, options, recipe.seed))
    rewards = answer_rewards(example, earlier, options.reward)
    for answer in earlier:
        arms.count(seen_chunks(answer))
        arms.reward(seen_chunks(answer), rewards[answer.sample_index])
    order = list(range(len(spans)))  # decides between equal bounds
    seeded_random(recipe.seed, "arms", example.example_id).shuffle(order)
    chosen: list[View] = []
    for _ in indices:
        numbers = sorted(arms.best(options.chunks, order))
        arms.count(numbers)
        parts = context_of_parts(
            context, [spans[number] for number in numbers], example.language, recipe.contexts.passages
        )
        chosen.append(View(parts, _SEEN + " ".join(map(str, numbers))))
    return chosen


class _Arms:
    """The arms of a question: how many samples have seen each, and its value."""

    def __init__(self, first_values: Sequence[float]) -> None:
        self._samples = 0
        self._seen = [0] * len(first_values)
        self._rewarded = [0] * len(first_values)
        self._sums = list(first_values)  # the first value is one reward more

    def count(self, numbers: Sequence[int]) -> None:
        """A sample sees these arms."""
        self._samples += 1
        for number in numbers:
            self._seen[number] += 1

    def reward(self, numbers: Sequence[int], reward: float) -> None:
        """A sample that has seen these arms got this reward."""
        for number in numbers:
            self._rewarded[number] += 1
            self._sums[number] += reward

    def best(self, count: int, order: Sequence[int]) -> list[int]:
        """The arms with the highest bounds; of equal ones the first of `order`."""
        return sorted(order, key=self._bound, reverse=True)[:count]

    def _bound(self, number: int) -> tuple[bool, float]:
        """Whether the arm comes before all that have been seen, and its bound, or its value before it has one."""
        value = self._sums[number] / (self._rewarded[number] + 1)
        if not self._seen[number]:
            return True, round(value, _DIGITS)
        return False, round(value + math.sqrt(2 * math.log(self._samples + 1) / self._seen[number]), _DIGITS)


def seen_chunks(answer: Answer) -> list[int]:
    """The numbers of the chunks that an answer's sample has seen."""
    return [int(number) for number in (answer.seen or "").removeprefix(_SEEN).split()]


def answer_rewards(example: Example, answers: Sequence[Answer], reward: str) -> Mapping[int, float]:
    """The reward of each answer, in [0, 1], by sample index; 0 without a text.

    By consensus it is the mean token F1 of an answer's final answer with those of the others, 0 for a single one.
    """
    if reward == "references":
        by_references = {answer.sample_index: reference_reward(answer.text, example) for answer in answers}
        if None not in by_references.values():
            return {index: value or 0.0 for index, value in by_references.items()}
    finals = {answer.sample_index: final_answer(answer.text) for answer in answers}
    rewards = {}
    for index, text in finals.items():
        alike = [token_f1(text, [other]) or 0.0 for other_index, other in finals.items() if other_index != index]
        rewards[index] = sum(alike) / len(alike) if alike else 0.0
    return rewards


def _first_values(
    example: Example, context: Context, spans: Sequence[Span], options: BanditOptions, seed: int
) -> list[float]:
    if options.start == "random":
        draw = seeded_random(seed, "values", example.example_id)
        return [draw.random() for _ in spans]
    words = set(rouge_tokens(example.question))
    values = []
    for start, end in spans:
        values.append(len(words & set(rouge_tokens(context.text[start:end]))) / max(1, len(words)))
    return values


@functools.lru_cache(maxsize=_CONTEXTS_REMEMBERED)
def _chunks(context: Context, size: int, tokenizer: str, trust_remote_code: bool) -> tuple[Span, ...]:
    """The chunks of a context; of chat messages those in which a message begins."""
    turns = turn_starts(context)
    spans = cut_text(context.text, size, load_tokenizer(tokenizer, trust_remote_code), turns)
    if context.span_roles is None:
        return tuple(spans)
    return tuple((start, end) for start, end in spans if any(start <= first < end for first in context.span_starts))


def prepare(question: RawQuestion, built: "BuiltQuestion", inputs: "Inputs") -> "BuiltQuestion | Drop":
    """The question with the prompt tokens of its samples: about those of so many whole chunks each."""
    options: BanditOptions = sampler_options(inputs.recipe)
    around = built.prompt_tokens - built.context.tokens
    tokens = min(built.prompt_tokens, options.chunks * options.chunk_tokens + around)
    example = replace(built.example, whole_prompt_tokens=built.prompt_tokens)
    return replace(built, example=example, sample_tokens=inputs.recipe.sampling.samples * tokens)


SAMPLER = Sampler(
    NAME,
    "chunks of the context, chosen by the rewards of the samples before (LongMab-PO)",
    views,
    rounds=rounds,
    prepare=prepare,
    options=BanditOptions,
)

"""Sampling: the prompt of a question, its N requests, and the answers in their replies.

A strategy is a prompt file `sample-STRATEGY.txt`; adding one is adding the file in each language. Every
sample has a seed of its own, drawn from the recipe's seed and the example id, so raising N leaves the first
samples as they are and the ledger pays for the difference alone. A permanent failure (a prompt too long for
the model, a content filter) is an answer without text whose `finish_reason` names the outcome; a passing one
fails the batch, which is tried again, because dropping it would make the dataset depend on the weather.
"""

from collections.abc import Iterable, Iterator, Sequence

from infra.canonical import seed_number
from infra.errors import ModelError
from infra.llm import Failure, ModelClient, Prompt, Reply, Request
from infra.recipe import Model, Recipe, Sampling
from tasks.nouns import Answer, Context, Example
from tasks.prompting import PromptText, load_prompt

GREEDY = -1  # sample_index of the greedy answer


def kind_of(answer: Answer) -> str:
    """The kind of call that an answer came from."""
    return "greedy" if answer.sample_index == GREEDY else "sample"


def sample_prompt_text(strategy: str, language: str) -> PromptText:
    """The prompt file of a sampling strategy."""
    return load_prompt(f"sample-{strategy}", language)


def sample_prompt(example: Example, context: str, strategy: str) -> Prompt:
    """The one user message that the policy sees; also the `prompt` of a published pair."""
    text = sample_prompt_text(strategy, example.language).render(context=context, question=example.question)
    return Prompt(({"role": "user", "content": text},))


def sample_requests(example: Example, context: Context, recipe: Recipe) -> list[Request]:
    """The N requests of an example, sample 0 first; then the greedy one if the recipe wants it."""
    sampling = recipe.sampling
    prompt = sample_prompt(example, context.text, sampling.strategy)
    indices = [*range(sampling.samples), *([GREEDY] if sampling.greedy else [])]
    return [_request(prompt, example, recipe.policy, sampling, recipe.seed, index) for index in indices]


def _request(prompt: Prompt, example: Example, model: Model, sampling: Sampling, seed: int, index: int) -> Request:
    greedy = index == GREEDY
    return Request(
        kind="greedy" if greedy else "sample",
        model=model.name,
        revision=model.revision,
        prompt=prompt,
        parameters={
            "temperature": 0.0 if greedy else sampling.temperature,
            "top_p": 1.0 if greedy else sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": 0 if greedy else seed_number(seed, example.example_id, index),
        },
        sample_index=index,
        affinity=example.context_id,
    )


def calls_per_example(recipe: Recipe) -> int:
    """Model calls that sampling makes for one example."""
    return recipe.sampling.samples + int(recipe.sampling.greedy)


def sample_batches(examples: Sequence[Example], calls_per_example: int, batch_calls: int) -> Iterator[list[Example]]:
    """Examples in micro-batches of at most `batch_calls` calls (one example at least), in their order."""
    size = max(1, batch_calls // calls_per_example)
    for start in range(0, len(examples), size):
        yield list(examples[start : start + size])


def draw_answers(
    examples: Sequence[Example], contexts: dict[str, Context], recipe: Recipe, client: ModelClient
) -> list[Answer]:
    """Answers of all samples of `examples`, by example and then by sample index.

    Raises ModelError when a call still fails for a passing cause after all its attempts.
    """
    wanted = [
        (example, request)
        for example in examples
        for request in sample_requests(example, contexts[example.context_id], recipe)
    ]
    outcomes = client.complete([request for _, request in wanted])
    _refuse_passing_failures(outcomes)
    return [
        answer_from(example.example_id, request, outcome, recipe.sampling.strategy)
        for (example, request), outcome in zip(wanted, outcomes, strict=True)
    ]


def answer_from(example_id: str, request: Request, outcome: Reply | Failure, strategy: str) -> Answer:
    """A reply as an answer; a failure as an answer without text, its reason as `finish_reason`."""
    if isinstance(outcome, Failure):
        return Answer(example_id, request.sample_index, "", outcome.reason, 0, 0, strategy, outcome.key)
    return Answer(
        example_id,
        request.sample_index,
        outcome.text,
        outcome.finish_reason,
        outcome.prompt_tokens,
        outcome.completion_tokens,
        strategy,
        outcome.key,
    )


def _refuse_passing_failures(outcomes: Iterable[Reply | Failure]) -> None:
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure) and not outcome.permanent]
    if failures:
        first = failures[0]
        raise ModelError(
            f"{len(failures)} calls failed after all attempts; the first: {first.reason}: {first.detail}. "
            "The replies that arrived are in the ledger; when the endpoint is well again, re-run the failed shards."
        )

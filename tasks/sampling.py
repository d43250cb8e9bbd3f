"""Sampling: the N requests of a question, and the answers in their replies.

Every sample has a seed of its own, drawn from the recipe's seed and the example id, so raising N leaves the first
samples as they are and the ledger pays for the difference alone. A refusal of the prompt (too long for the model, a
content filter) is an answer without text whose `finish_reason` names the outcome. So is a reply that did not end by
itself or at max_tokens: its text is a fragment. A passing fault fails the batch, which is tried again, because dropping
it would make the dataset depend on the weather; a refusal of the account, the model or the form stops the run.

What a model has thought is a column of its own, and no part of the text.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from infra.canonical import seed_number
from infra.ledger import Entry
from infra.models.client import Failure, ModelClient, Prompt, Reply, Request
from infra.models.forms.request_form import parameters_of
from infra.models.protocol import LedgerLike, parse_reply
from infra.models.sending.errors import failed_error
from infra.models.special_tokens import NO_TOKENS
from infra.recipe import Model, Recipe, Sampling
from tasks.records.example import GREEDY, STRONG, Answer, Context, Example
from tasks.records.plan import PlannedShard
from tasks.sample_prompt import sample_prompt
from tasks.samplers import View, find_sampler
from tasks.stopping import is_decided, stop_rounds, stops_by_reward

_LOOKUP = 4096  # keys that are looked up in the ledger at once
ANSWERS = ("sample", "greedy", "strong")  # kinds of calls that bring an answer


def kind_of(answer: Answer) -> str:
    """The kind of call that an answer came from."""
    return {GREEDY: "greedy", STRONG: "strong"}.get(answer.sample_index, "sample")


def sample_requests(
    example: Example,
    context: Context,
    recipe: Recipe,
    special_tokens: Collection[str] = NO_TOKENS,
    earlier: Sequence[Answer] = (),
) -> list[Request]:
    """The requests of an example's next round of samples, in their order; with the first round, after its samples, the
    greedy one if the recipe wants it. None when all are drawn, or enough of them (sampling.stop).

    `earlier` are the answers of the rounds before. Where every sample sees the same (sampling.context) and none may be
    saved, one round has them all.
    """
    return [call.request for call in sample_calls(example, context, recipe, special_tokens, earlier)]


@dataclass(frozen=True, slots=True)
class SampleCall:
    """A request for an answer. `seen` says what of the context is in its prompt; None where it is all of it."""

    request: Request
    seen: str | None = None


def sample_calls(
    example: Example,
    context: Context,
    recipe: Recipe,
    special_tokens: Collection[str] = NO_TOKENS,
    earlier: Sequence[Answer] = (),
) -> list[SampleCall]:
    """As `sample_requests`, with what each sample sees."""
    drawn = [answer for answer in earlier if answer.sample_index >= 0]
    sampler = find_sampler(recipe.sampling.context)
    indices = next((indices for indices in sample_rounds(recipe) if indices.start == len(drawn)), range(0))
    if drawn and indices and is_decided(example, drawn, recipe):
        indices = range(0)
    prompts: dict[str, Prompt] = {}  # by context, so that samples which see the same share one

    def call(view: View, index: int) -> SampleCall:
        seen_id = view.context.context_id
        if seen_id not in prompts:
            prompts[seen_id] = sample_prompt(
                example, view.context, recipe.sampling.strategy, recipe.policy, special_tokens
            )
        request = _request(prompts[seen_id], seen_id, example, recipe.policy, recipe.sampling, recipe.seed, index)
        return SampleCall(request, view.seen)

    calls = []
    for view, index in zip(sampler.views(example, context, recipe, indices, drawn), indices, strict=True):
        calls.append(call(view, index))
    if recipe.sampling.greedy and not earlier:
        calls.append(call(View(context), GREEDY))
    return calls


def strong_requests(
    example: Example, context: Context, recipe: Recipe, special_tokens: Collection[str] = NO_TOKENS
) -> list[Request]:
    """The one request to the stronger model, greedy, with the same prompt; none without such a model."""
    if recipe.strong is None:
        return []
    prompt = sample_prompt(example, context, recipe.sampling.strategy, recipe.strong, special_tokens)
    return [_request(prompt, example.context_id, example, recipe.strong, recipe.sampling, recipe.seed, STRONG)]


def _request(
    prompt: Prompt, seen_id: str, example: Example, model: Model, sampling: Sampling, seed: int, index: int
) -> Request:
    greedy = index < 0
    own: dict[str, Any] = {
        "temperature": 0.0 if greedy else sampling.temperature,
        "top_p": 1.0 if greedy else sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": 0 if greedy else seed_number(seed, example.example_id, index),
    }
    if sampling.logprobs and not greedy:
        own["logprobs"] = True
    return Request(
        kind={GREEDY: "greedy", STRONG: "strong"}.get(index, "sample"),
        model=model.name,
        revision=model.revision,
        prompt=prompt,
        parameters=parameters_of(model, own),
        sample_index=index,
        affinity=seen_id,
    )


def sample_rounds(recipe: Recipe) -> Sequence[range]:
    """The sample indices of each round of a question that gets all samples."""
    return stop_rounds(recipe, find_sampler(recipe.sampling.context).rounds(recipe))


def calls_per_example(recipe: Recipe) -> int:
    """Model calls that sampling makes for one example; the most of them where a rule may stop it earlier."""
    return recipe.sampling.samples + int(recipe.sampling.greedy) + int(recipe.strong is not None)


def saved_samples(examples: int, answers: Sequence[Answer], recipe: Recipe) -> int:
    """Samples of so many examples that a stopping rule has saved, from their answers."""
    return examples * recipe.sampling.samples - sum(answer.sample_index >= 0 for answer in answers)


def draw_answers(
    examples: Sequence[Example],
    contexts: dict[str, Context],
    recipe: Recipe,
    client: ModelClient,
    strong: ModelClient | None = None,
    special_tokens: Collection[str] = NO_TOKENS,
    earlier: Sequence[Answer] | None = None,
) -> list[Answer]:
    """Answers of all samples of `examples`, by example: samples, then the greedy and the stronger model's answer.

    `special_tokens` are the plan's. `earlier`: the answers of the rounds before; then the next round alone is drawn.

    Raises ModelError when a call still fails for a passing cause after all its attempts, RefusedError when a server
    refuses the account, the model or the form of the requests.
    """
    answers_by_example: dict[str, list[Answer]] = {example.example_id: [] for example in examples}
    for answer in earlier or ():
        if answer.example_id in answers_by_example:
            answers_by_example[answer.example_id].append(answer)
    while True:  # a round of all examples at a time
        calls: list[tuple[str, SampleCall]] = []
        for example in examples:
            context, drawn = contexts[example.context_id], answers_by_example[example.example_id]
            for call in sample_calls(example, context, recipe, special_tokens, drawn):
                calls.append((example.example_id, call))
        if not calls:
            break
        _draw(calls, client, recipe, answers_by_example)
        if earlier is not None:
            break
    if strong is not None and not earlier:
        calls = []
        for example in examples:
            for request in strong_requests(example, contexts[example.context_id], recipe, special_tokens):
                calls.append((example.example_id, SampleCall(request)))
        _draw(calls, strong, recipe, answers_by_example)
    answers = []
    had = {answer.id for answer in earlier or ()}
    for of_example in answers_by_example.values():
        new = [answer for answer in of_example if answer.id not in had]
        answers.extend(sorted(new, key=lambda answer: answer.sample_index < 0))
    return answers


def _draw(
    calls: Sequence[tuple[str, SampleCall]],
    client: ModelClient,
    recipe: Recipe,
    answers_by_example: Mapping[str, list[Answer]],
) -> None:
    """Make calls, each of an example, and add their answers to those of the example."""
    outcomes = client.complete([call.request for _, call in calls])
    _refuse_passing_failures(outcomes, [example_id for example_id, _ in calls])
    for (example_id, call), outcome in zip(calls, outcomes, strict=True):
        answers_by_example[example_id].append(_answer_of(example_id, call, outcome, recipe))


@dataclass(frozen=True, slots=True)
class LaterSamples:
    """Samples of some questions whose requests cannot be told yet: so many at least, as expected, and at most."""

    least: float = 0
    expected: float = 0
    most: float = 0

    def __add__(self, other: "LaterSamples") -> "LaterSamples":
        return LaterSamples(self.least + other.least, self.expected + other.expected, self.most + other.most)


@dataclass(frozen=True, slots=True)
class RecordedCalls:
    """The policy's requests for answers that can be told now, each once, with its entry in the ledger; and the rest."""

    calls: list[tuple[Request, Entry | None]]
    later: LaterSamples


def recorded_calls(
    examples: Sequence[Example],
    contexts: Mapping[str, Context],
    recipe: Recipe,
    ledger: LedgerLike,
    special_tokens: Collection[str] = NO_TOKENS,
) -> RecordedCalls:
    """What can be told of the calls for the answers of some questions.

    What a later round asks, and whether there is one, depends on the answers before it: of a question it can be told
    where the ledger has them.
    """
    recorded: list[tuple[Request, Entry | None]] = []
    drawn: dict[str, list[Answer]] = {example.example_id: [] for example in examples}
    certain_samples = dict.fromkeys(drawn, 0)
    decided: list[int] = []  # samples of questions that need no more
    keys: set[str] = set()
    going_on = list(examples)
    while going_on:
        calls_of_round: list[tuple[Example, list[SampleCall]]] = []
        requests: dict[str, Request] = {}
        for example in going_on:
            earlier = drawn[example.example_id]
            calls = sample_calls(example, contexts[example.context_id], recipe, special_tokens, earlier)
            certain_samples[example.example_id] += sum(call.request.kind == "sample" for call in calls)
            if calls:
                calls_of_round.append((example, calls))
            else:
                decided.append(certain_samples.pop(example.example_id))
            requests.update({call.request.key: call.request for call in calls if call.request.key not in keys})
        entries: dict[str, Entry] = {}
        ordered = list(requests)
        for start in range(0, len(ordered), _LOOKUP):
            entries.update(ledger.lookup(ordered[start : start + _LOOKUP]))
        if stops_by_reward(recipe) and len(keys):  # whether a later round is asked is known where it was
            for example, calls in calls_of_round:
                if not all(call.request.key in entries for call in calls):
                    certain_samples[example.example_id] -= sum(call.request.kind == "sample" for call in calls)
            requests = {key: request for key, request in requests.items() if key in entries}
        recorded += [(request, entries.get(key)) for key, request in requests.items()]
        keys.update(requests)
        going_on = []
        if len(sample_rounds(recipe)) == 1:
            break
        for example, calls in calls_of_round:
            if all(call.request.key in entries for call in calls):
                for call in calls:
                    outcome = parse_reply(entries[call.request.key], recipe.policy.reasoning)
                    drawn[example.example_id].append(_answer_of(example.example_id, call, outcome, recipe))
                going_on.append(example)
    return RecordedCalls(recorded, _later_samples(list(certain_samples.values()), decided, recipe))


def _later_samples(certain: Sequence[int], decided: Sequence[int], recipe: Recipe) -> LaterSamples:
    """The samples of later rounds, from those that are certain of each question that may need more.

    With a stopping rule there may be none; expected are as many samples as decided questions have on average, or, as
    long as there is none, half of those that may be left.
    """
    most = sum(recipe.sampling.samples - samples for samples in certain)
    if recipe.sampling.stop is None:
        return LaterSamples(most, most, most)
    if not decided:
        return LaterSamples(0, most / 2, most)
    mean = sum(decided) / len(decided)
    return LaterSamples(0, sum(max(0.0, mean - samples) for samples in certain), most)


def sample_prompt_tokens(shard: PlannedShard, recipe: Recipe) -> int:
    """Prompt tokens of all the policy's calls for answers of a planned shard."""
    tokens = shard.sample_tokens
    if tokens is None:
        tokens = recipe.sampling.samples * shard.prompt_tokens
    return tokens + int(recipe.sampling.greedy) * shard.prompt_tokens


def _answer_of(example_id: str, call: SampleCall, outcome: Reply | Failure, recipe: Recipe) -> Answer:
    answer = answer_from(example_id, call.request, outcome, recipe.sampling.strategy)
    return answer if call.seen is None else replace(answer, seen=call.seen)


def answer_from(example_id: str, request: Request, outcome: Reply | Failure, strategy: str) -> Answer:
    """A finished reply as an answer; any other outcome as an answer without text, its name as `finish_reason`."""
    if isinstance(outcome, Failure):
        return Answer(example_id, request.sample_index, "", outcome.reason, 0, 0, strategy, outcome.key)
    return Answer(
        example_id,
        request.sample_index,
        outcome.text if outcome.finished else "",
        outcome.finish_reason,
        outcome.prompt_tokens,
        outcome.completion_tokens,
        strategy,
        outcome.key,
        *_reasoning(outcome),
    )


def _reasoning(reply: Reply) -> tuple[str | None, int | None]:
    """What the model has thought before an answer, and its tokens: some servers send the count alone."""
    if reply.thinking_in_text or not (reply.thinking or reply.reasoning_tokens):
        return None, None
    return reply.thinking or None, reply.reasoning_tokens


def _refuse_passing_failures(outcomes: Sequence[Reply | Failure], example_ids: Sequence[str]) -> None:
    failures = []
    names = []
    for example_id, outcome in zip(example_ids, outcomes, strict=True):
        if isinstance(outcome, Failure) and not outcome.permanent:
            failures.append(outcome)
            names.append(f"question {example_id}")
    if failures:
        raise failed_error(failures, names)

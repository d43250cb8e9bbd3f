"""Asking the judge: many questions at once, each until its reply can be used, every reply a ledger entry.

The first try is at the judge's own temperature; a reply that cannot be used is asked for again, hotter and with
another seed, at most `judge.replies` times in all. Then the word is null with its reason: null is an outcome
here, never an error and never a number. A refusal that would be repeated (a prompt too long, a content filter) is
final at once; a passing fault of the server raises, so that the work is tried again and the dataset does not
depend on the weather. Replies are constrained where the server can (`structured.py`). All questions are asked at
once, then all that are still open, and so on; seeds come from the recipe's seed and the question, so that neither
company nor order matters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from infra.canonical import fingerprint, seed_number
from infra.errors import ModelError, RecipeError
from infra.models.client import Failure, ModelClient, Outcome, Prompt, Reply, Request
from infra.recipe import Judge
from tasks.judging.quoting import quoted
from tasks.judging.replies import Unusable
from tasks.judging.structured import FIELD, ReplyForm, form_field, obeyed, probe
from tasks.prompts import load_prompt
from tasks.scoring import ScoringContext

__all__ = ["JudgeQuery", "ReplyForm", "Verdict", "ask_all", "judge_of", "judge_prompt", "refuse_passing_failures"]

Judged = TypeVar("Judged")


@dataclass(frozen=True, slots=True)
class JudgeQuery(Generic[Judged]):
    """One question to the judge. `read` parses the reply's text and raises Unusable."""

    kind: str  # calls are counted by it
    prompt: Prompt
    affinity: str  # context_id
    read: Callable[[str], Judged]
    max_tokens: int
    form: ReplyForm | None = None
    variant: int = 0  # sets calls with equal bodies apart in the ledger, so that both are paid for
    cut: Literal["never", "if_readable"] = "if_readable"  # may a reply that hit max_tokens be read?
    tries: int | None = None  # fewer than the judge's `replies`, where asking again would bring the same
    reads: Literal["text", "raw"] = "text"  # raw: the whole JSON body, for logprobs
    parameters: tuple[tuple[str, Any], ...] = ()  # further request parameters; they go before the judge's own


@dataclass(frozen=True, slots=True)
class Verdict(Generic[Judged]):
    """The judge's word. `reason` says why there is no value, and is null when there is one."""

    value: Judged | None
    reason: str | None
    reply: str  # text of the last reply; of a call without one, what the server said instead
    keys: tuple[str, ...]  # ledger keys of all tries


def judge_prompt(step: str, language: str, prompts: str, **values: str) -> Prompt:
    """The prompt of a step, every value quoted. `prompts`: the set of prompt files, "full", "terse", "expected"."""
    text = load_prompt(f"judge-{prompts}-{step}", language)
    return Prompt(({"role": "user", "content": text.render(**{name: quoted(each) for name, each in values.items()})},))


def judge_of(bench: ScoringContext) -> tuple[Judge, ModelClient]:
    """The recipe's judge and its client. Raises RecipeError when the recipe has none."""
    if bench.recipe.judge is None or bench.judge is None:
        raise RecipeError("scoring.scorers: a scorer asks a judge, and the recipe has no `judge` section; add one")
    return bench.recipe.judge, bench.judge


def ask_all(asks: Sequence[JudgeQuery[Judged]], bench: ScoringContext) -> list[Verdict[Judged]]:
    """The judge's word on each question, in their order. Raises ModelError for faults that may pass."""
    judge, client = judge_of(bench)
    constrained = judge.structured == "auto" and any(ask.form for ask in asks) and _constrains(judge, client, bench)
    words: list[Verdict[Judged]] = [Verdict(None, "unasked", "", ())] * len(asks)
    waiting = list(range(len(asks)))
    for attempt in range(judge.replies):
        if not waiting:
            break
        requests = [_request(asks[place], attempt, judge, bench.recipe.seed, constrained) for place in waiting]
        outcomes = _complete(requests, client)
        for place, outcome in zip(waiting, outcomes, strict=True):
            words[place] = _heard(asks[place], outcome, words[place].keys)
        waiting = [
            place
            for place, outcome in zip(waiting, outcomes, strict=True)
            if words[place].reason is not None
            and isinstance(outcome, Reply)
            and attempt + 1 < (asks[place].tries or judge.replies)
        ]
    return words


def refuse_passing_failures(outcomes: Sequence[Outcome]) -> None:
    """Raise ModelError when a call failed for a cause that may pass: its work is to be tried again."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure) and not outcome.permanent]
    if failures:
        first = failures[0]
        raise ModelError(
            f"{len(failures)} calls to the judge failed after all attempts; the first: {first.reason}: {first.detail}. "
            "The replies that arrived are in the ledger; when the endpoint is well again, re-run the failed shards."
        )


def _complete(requests: Sequence[Request], client: ModelClient) -> list[Outcome]:
    """The outcomes; a server that cannot constrain to this form after all is asked once more without it."""
    outcomes = client.complete(requests)
    refuse_passing_failures(outcomes)
    refused = {
        place: request
        for place, (request, outcome) in enumerate(zip(requests, outcomes, strict=True))
        if FIELD in request.parameters and isinstance(outcome, Failure) and outcome.reason == "bad_request"
    }
    if not refused:
        return outcomes
    plain = client.complete([_without_form(request) for request in refused.values()])
    refuse_passing_failures(plain)
    for (place, request), outcome in zip(refused.items(), plain, strict=True):
        refusal = outcomes[place]
        if isinstance(outcome, Reply) and isinstance(refusal, Failure):  # it was the form that was refused
            client.keep_refusal(request, refusal)
        outcomes[place] = outcome
    return outcomes


def _heard(ask: JudgeQuery[Judged], outcome: Outcome, earlier: tuple[str, ...]) -> Verdict[Judged]:
    keys = (*earlier, outcome.key)
    if isinstance(outcome, Failure):
        return Verdict(None, outcome.reason, outcome.detail, keys)
    cut = outcome.finish_reason == "length" and ask.reads == "text"
    if outcome.finish_reason == "content_filter" or (cut and ask.cut == "never"):
        return Verdict(None, "cut_off" if cut else "content_filter", outcome.text, keys)
    try:
        return Verdict(ask.read(outcome.raw if ask.reads == "raw" else outcome.text), None, outcome.text, keys)
    except Unusable as fault:
        return Verdict(None, "cut_off" if cut and outcome.text.strip() else fault.reason, outcome.text, keys)


def _request(ask: JudgeQuery[Judged], attempt: int, judge: Judge, seed: int, constrained: bool) -> Request:
    parameters: dict[str, Any] = {
        "temperature": judge.retry_temperature if attempt else judge.temperature,
        "top_p": 1.0,
        "max_tokens": ask.max_tokens,
        "seed": 0,
        **dict(ask.parameters),
    }
    if attempt:
        # Without the variant: whether equal questions share their calls must not change what is said to them.
        identity = fingerprint([ask.prompt.digest, dict(ask.parameters)])
        parameters["seed"] = seed_number(seed, "judge", identity, attempt)
    if constrained and ask.form is not None:
        parameters[FIELD] = form_field(ask.form)
    index = ask.variant * judge.replies + attempt
    return Request(ask.kind, judge.name, judge.revision, ask.prompt, parameters, index, ask.affinity)


def _without_form(request: Request) -> Request:
    parameters = {name: value for name, value in request.parameters.items() if name != FIELD}
    index, affinity = request.sample_index, request.affinity
    return Request(request.kind, request.model, request.revision, request.prompt, parameters, index, affinity)


def _constrains(judge: Judge, client: ModelClient, bench: ScoringContext) -> bool:
    """Whether the judge's server constrains replies; asked once per judge, then known from the ledger."""

    def find_out() -> bool:
        request = probe(judge)
        (outcome,) = client.complete([request])
        refuse_passing_failures([outcome])
        if isinstance(outcome, Failure):
            client.keep_refusal(request, outcome)
        return obeyed(outcome)

    return bench.memo.get(("constrains", judge.name, judge.revision), find_out)

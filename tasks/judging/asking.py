"""Asking the judge: each query until its reply can be used, every reply an entry of the ledger.

The first attempt is at the judge's own temperature. A reply that cannot be used is asked for again, at a higher
temperature and with another seed, at most `judge.replies` times in all; then the verdict is null with its reason,
never an error and never a number. A refusal that would be repeated (a prompt too long, a content filter) is final
at once. A passing fault of the server raises ModelError, so that the work is tried again: the dataset must not depend
on the state of the network. A reply that did not end by itself or at its limit cannot be used. Seeds come from the
recipe's seed and the query, so the order of queries does not matter.

Replies are constrained to a form where the server can do it. vLLM takes a regular expression or a choice in the
body's `structured_outputs`; other servers refuse the field or ignore it, and only a reply tells which. So the server
is asked once for a text that no model would write by itself (the probe). The ledger keeps the reply, so a second run
does not ask; a judge that is asked by batches is not probed, since that would be a batch of one call. Parsing is as
strict with a form as without. Left out: the field's older names.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from infra.canonical import fingerprint, seed_number
from infra.errors import RecipeError
from infra.ledger import Entry
from infra.models.client import Failure, ModelClient, Outcome, Prompt, Reply, Request, parse_reply
from infra.models.completions import REFUSED, refusal_in
from infra.models.forms.request_form import parameters_of, prompt_for
from infra.models.protocol import CHAT
from infra.models.sending.errors import failed_error
from infra.models.special_tokens import break_special_tokens, special_tokens_of
from infra.recipe import Judge, Model, Recipe
from tasks.judging.context import ScoringContext
from tasks.judging.quoting import TAGS, quoted
from tasks.judging.replies import Unusable
from tasks.judging.reward_settings import reward_judge
from tasks.judging.steps import JudgeQuery, ModelRole, ReplyForm, Verdict
from tasks.judging.verifier_settings import verifier_judge
from tasks.prompts import load_prompt

Value = TypeVar("Value")

FORM_FIELD = "structured_outputs"
_PROBE_PROMPT = Prompt(({"role": "user", "content": "Say hello."},))
_PROBE_REPLY = "[[7]] [[7]]"
_SHARED_WITH_JUDGE = {"prompts", "temperature", "retry_temperature", "replies", "structured", "reasoning_tokens"}
# What a special token looks like: a word between angles or square brackets, but for the tags of prompts.
_TOKEN_LIKE = re.compile(rf"<(?!/?(?:{'|'.join(TAGS)})\b)[^\s<>]{{1,48}}>|\[/?[A-Za-z@][\w@]*\]|>>\w+<<")


class Answering(Protocol):
    """What answers requests: a model's client, or what stands in its place (see ModelClient)."""

    def complete(self, requests: Sequence[Request]) -> list[Outcome]: ...

    def record_refusal(self, request: Request, failure: Failure) -> None: ...


def judge_prompt(step: str, language: str, prompts: str, **values: str) -> Prompt:
    """The prompt of a step, every value quoted. `prompts`: the set of prompt files, "full", "terse" or "expected"."""
    return quoted_prompt(f"judge-{prompts}-{step}", language, values)


def quoted_prompt(name: str, language: str, values: Mapping[str, str], **parts: str) -> Prompt:
    """The prompt of a file, every value quoted. `parts` are put in as they are: they hold tags, and quoted texts."""
    text = load_prompt(name, language)
    quoted_values = {name: quoted(value) for name, value in values.items()}
    return Prompt(({"role": "user", "content": text.render(**quoted_values, **parts)},))


def judge_settings(scoring: ScoringContext, role: ModelRole = "judge") -> Judge:
    """The settings of the model that is asked. Raises RecipeError when the recipe has no judge."""
    if role == "policy":
        return policy_as_judge(scoring.recipe)
    if role == "strong" and scoring.recipe.strong is not None:
        return asked_as_judge(scoring.recipe.strong, scoring.recipe)
    if role == "reward_model":
        return reward_judge(scoring.recipe)
    if role == "verifier":
        return verifier_judge(scoring.recipe)
    if scoring.recipe.judge is None:
        raise RecipeError("scoring.scorers: a scorer asks a judge, and the recipe has no `judge` section; add one")
    return scoring.recipe.judge


def policy_as_judge(recipe: Recipe) -> Judge:
    """The policy in the place of a judge; how a judge is asked stays as the recipe's judge section says."""
    return asked_as_judge(recipe.policy, recipe)


def asked_as_judge(model: Model, recipe: Recipe) -> Judge:
    """A model of the recipe in the place of a judge."""
    manner = recipe.judge.model_dump(include=_SHARED_WITH_JUDGE) if recipe.judge else {}
    return Judge.model_validate(model.model_dump() | manner)


def ask_judge(
    queries: Sequence[JudgeQuery[Value]],
    scoring: ScoringContext,
    role: ModelRole = "judge",
    answering: Answering | None = None,
) -> list[Verdict[Value]]:
    """The verdict on each query, in order. `answering`: whom the requests go to; the client of the role without it.

    Raises ModelError for faults that may pass, and JudgeError when the judge has failed its trial (`trial.py`).
    """
    judge = judge_settings(scoring, role)
    client = answering or client_of(scoring, role)
    constrained = False
    if judge.structured == "auto" and judge.mode == "live" and any(query.form for query in queries):
        constrained = _constrains_replies(judge, client, scoring)
    verdicts: list[Verdict[Value]] = [Verdict(None, "not_asked", "", ())] * len(queries)
    open_places = list(range(len(queries)))
    for attempt in range(judge.replies):
        still_open: list[int] = []
        while open_places:
            tried = role == "judge" and attempt == 0
            number = scoring.trial.begin(queries[open_places[0]].kind, len(open_places)) if tried else len(open_places)
            places, open_places = open_places[:number], open_places[number:]
            replies = 0
            unusable: list[int] = []
            try:
                requests = []
                for place in places:
                    requests.append(_request(queries[place], attempt, judge, scoring.recipe.seed, constrained))
                outcomes = _complete(requests, [queries[place].subject for place in places], client)
                for place, outcome in zip(places, outcomes, strict=True):
                    verdicts[place] = _verdict(queries[place], outcome, (*verdicts[place].keys, outcome.key))
                    replies += isinstance(outcome, Reply)
                    if isinstance(outcome, Reply) and verdicts[place].reason is not None:
                        unusable.append(place)
            finally:
                if tried:
                    texts = [(verdicts[place].reason or "", verdicts[place].reply) for place in unusable]
                    scoring.trial.end(queries[places[0]].kind, number, replies, texts)
            still_open.extend(place for place in unusable if attempt + 1 < (queries[place].attempts or judge.replies))
        open_places = still_open
    return verdicts


def query_identity(query: JudgeQuery[Any], scoring: ScoringContext, role: ModelRole) -> list[Any]:
    """What the replies to a query depend on, JSON-ready: the same for queries that make the same calls."""
    judge = judge_settings(scoring, role)
    form = [query.form.kind, query.form.value] if query.form and judge.structured == "auto" else None
    prompt = _without_own_tokens(query.prompt, judge)
    own = [query.kind, prompt.digest, query.max_tokens, query.variant, form, query.attempts, query.parameters]
    if query.route != CHAT:
        own.append(query.route)
    thinking = [judge.reasoning, judge.reasoning_tokens] if judge.reasoning != "auto" or judge.reasoning_tokens else []
    omitted = [name for name in judge.omit if name != "seed"]
    further = [judge.system, judge.parameters, omitted] if judge.system or judge.parameters or omitted else []
    manner = [judge.temperature, judge.retry_temperature, judge.replies, *thinking, *further]
    return [*own, judge.name, judge.revision, *manner]


def verdict_from_ledger(
    query: JudgeQuery[Value], keys: Sequence[str], entries: dict[str, Entry], judge: Judge
) -> Verdict[Value] | None:
    """The verdict that an earlier run got, from the ledger's entries; None when the last one is not there."""
    entry = entries.get(keys[-1]) if keys else None
    return None if entry is None else _verdict(query, parse_reply(entry, judge.reasoning, query.route), tuple(keys))


def refuse_passing_failures(outcomes: Sequence[Outcome], subjects: Sequence[str] = ()) -> None:
    """Raise ModelError when a call failed for a cause that may pass: its work has to be tried again."""
    failures = []
    names = []
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, Failure) and not outcome.permanent:
            failures.append(outcome)
            names.append(subjects[place] if place < len(subjects) else "")
    if failures:
        raise failed_error(failures, names, "calls to the judge")


def client_of(scoring: ScoringContext, role: ModelRole) -> ModelClient:
    """The client of the model that is asked. Raises RecipeError when the run has none."""
    client = scoring.client(role)
    if client is None:
        raise RecipeError(f"scoring.scorers: a scorer asks the {role}, and this run has no client for it")
    return client


def _complete(requests: Sequence[Request], subjects: Sequence[str], client: Answering) -> list[Outcome]:
    """The outcomes. A request that is refused with its form is sent once more without it."""
    outcomes = client.complete(requests)
    refuse_passing_failures(outcomes, subjects)
    refused = []
    for place, (request, outcome) in enumerate(zip(requests, outcomes, strict=True)):
        if FORM_FIELD in request.parameters and isinstance(outcome, Failure) and outcome.reason == "bad_request":
            refused.append(place)
    if not refused:
        return outcomes
    plain_outcomes = client.complete([_without_form(requests[place]) for place in refused])
    refuse_passing_failures(plain_outcomes, [subjects[place] for place in refused])
    for place, outcome in zip(refused, plain_outcomes, strict=True):
        refusal = outcomes[place]
        if isinstance(outcome, Reply) and isinstance(refusal, Failure):  # it was the form that was refused
            client.record_refusal(requests[place], refusal)
        outcomes[place] = outcome
    return outcomes


def _verdict(query: JudgeQuery[Value], outcome: Outcome, keys: tuple[str, ...]) -> Verdict[Value]:
    if isinstance(outcome, Failure):
        return Verdict(None, outcome.reason, outcome.detail, keys)
    cut = outcome.finish_reason == "length" and query.reads == "text"
    if not outcome.finished:
        words = outcome.text if outcome.finish_reason != REFUSED else refusal_in(outcome.raw)
        return Verdict(None, outcome.finish_reason, words, keys)
    if cut and query.cut == "never":
        return Verdict(None, "cut_off", outcome.text, keys)
    try:
        value = query.read(outcome.raw if query.reads == "raw" else outcome.text)
    except Unusable as fault:
        reason = "cut_off" if cut and outcome.text.strip() else fault.reason
        return Verdict(None, reason, outcome.text, keys)
    return Verdict(value, None, outcome.text, keys)


def _request(query: JudgeQuery[Any], attempt: int, judge: Judge, seed: int, constrained: bool) -> Request:
    if query.route != CHAT:
        own = query.kind, judge.name, judge.revision, query.prompt, dict(query.parameters), query.variant
        return Request(*own, query.affinity, query.route)
    thinking_tokens = judge.reasoning_tokens if query.reads == "text" else 0  # logprobs are those of the first token
    parameters: dict[str, Any] = {
        "temperature": judge.retry_temperature if attempt else judge.temperature,
        "top_p": 1.0,
        "max_tokens": query.max_tokens + thinking_tokens,
        "seed": 0,
        **dict(query.parameters),
    }
    if attempt:
        # Without the variant: whether equal queries share their calls must not change the replies.
        identity = fingerprint([query.prompt.digest, dict(query.parameters)])
        parameters["seed"] = seed_number(seed, "judge", identity, attempt)
    if constrained and query.form is not None:
        parameters[FORM_FIELD] = form_value(query.form)
    index = query.variant * judge.replies + attempt
    prompt, parameters = prompt_for(judge, _without_own_tokens(query.prompt, judge)), parameters_of(judge, parameters)
    own = query.kind, judge.name, judge.revision, prompt, parameters, index
    return Request(*own, query.affinity, has_alternative=FORM_FIELD in parameters)


def _without_form(request: Request) -> Request:
    parameters = {name: value for name, value in request.parameters.items() if name != FORM_FIELD}
    return Request(
        request.kind,
        request.model,
        request.revision,
        request.prompt,
        parameters,
        request.sample_index,
        request.affinity,
    )


def _without_own_tokens(prompt: Prompt, judge: Judge) -> Prompt:
    """The prompt with the special tokens broken up that the judge's tokenizer alone has; `quoted` knows the others.

    The tokenizer is loaded where the prompt holds something that looks like a token, and must be at hand for this.
    """
    texts = [message["content"] for message in prompt.messages]
    if not any(map(_TOKEN_LIKE.search, texts)):
        return prompt
    own = special_tokens_of(judge.tokenizer, judge.trust_remote_code)
    plain = [break_special_tokens(text, own) for text in texts]
    if plain == texts:
        return prompt
    messages = []
    for message, text in zip(prompt.messages, plain, strict=True):
        messages.append({**message, "content": text})
    return Prompt(tuple(messages))


def form_value(form: ReplyForm) -> dict[str, Any]:
    """The value of the body's `structured_outputs`."""
    if form.kind == "json":
        return {form.kind: json.loads(str(form.value))}
    return {form.kind: form.value if isinstance(form.value, str) else list(form.value)}


def _constrains_replies(judge: Judge, client: Answering, scoring: ScoringContext) -> bool:
    """Whether the judge's server constrains replies; the probe is sent once per judge, then read from the ledger."""

    def send_probe() -> bool:
        request = _probe(judge)
        outcome = client.complete([request])[0]
        refuse_passing_failures([outcome], ["the probe for structured output"])
        if isinstance(outcome, Failure):
            client.record_refusal(request, outcome)
        return isinstance(outcome, Reply) and outcome.text.strip() == _PROBE_REPLY

    return scoring.cache.get(("constrains", judge.name, judge.revision), send_probe)


def _probe(judge: Judge) -> Request:
    parameters = {
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 32 + judge.reasoning_tokens,
        "seed": 0,
        FORM_FIELD: form_value(ReplyForm("choice", (_PROBE_REPLY,))),
    }
    prompt, parameters = prompt_for(judge, _PROBE_PROMPT), parameters_of(judge, parameters)
    return Request("probe", judge.name, judge.revision, prompt, parameters, 0, "probe", has_alternative=True)

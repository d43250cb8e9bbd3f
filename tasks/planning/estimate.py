"""What a plan will take, before it is paid: calls by kind, tokens, money, and the calls that are in the ledger already.

Answers: input tokens are exact (the plan counted them), output tokens are a range. Where the ledger has answers of
the plan, low is the 10th percentile of their lengths and expected their mean; without any, an eighth and a half of
`sampling.max_tokens`. High is always max_tokens.

Judging can only be expected, because there is no answer to judge yet. How many calls of each kind are needed is what
the scorers say (`Scorer.calls`); equal facts and pruning save some of them, unusable replies cost some more. Tokens
are rough: the prompt file at four characters a token, and the values of its placeholders. A reply is expected to take a
quarter of its limit, a label alone (terse prompts) a few tokens, and half of what the judge may think. Finished shards
count by their calls in the ledger.

Where a stopping rule may save samples (sampling.stop), their calls are a range, and so is all that follows from them.

One shard is in memory at a time.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from infra.ledger import Entry, Ledger
from infra.models.budget import call_cost
from infra.models.tokens import load_tokenizer
from infra.models.usage import ByTokenizer, UsageReader
from infra.recipe import Price, Recipe
from infra.running import progress
from infra.store import Store
from tasks.judging.bundles import BUNDLE_KIND
from tasks.judging.reward_settings import NAME as REWARD_MODEL
from tasks.judging.reward_settings import called_models
from tasks.judging.verifier_settings import VERIFIER, VERIFY
from tasks.planning.cascade_shares import cascade_view, expected_calls
from tasks.planning.expected import (
    CHARACTERS,
    NOTHING,
    Calls,
    Range,
    answer_token_range,
    cost_range,
    reply_token_range,
    thinking_range,
)
from tasks.planning.full_judge import judged_in_full
from tasks.prompts import load_prompt, prompt_names
from tasks.records.example import Context, Example
from tasks.records.plan import Plan, load_shard
from tasks.records.shard import read_shard_result
from tasks.sampling import LaterSamples, recorded_calls, sample_prompt_tokens
from tasks.scoring import ActiveScorer, parse_scorers

_LOOKUP = 4096  # keys that are looked up in the ledger at once
_PAID = 200  # status of a reply with a completion
_SENTENCE = 30  # tokens of a question or a statement
_LABEL = 8  # tokens of a reply that is a label alone
_LISTS = {"notes": "notes_tokens", "facts": "facts_tokens"}  # kinds whose replies are more than a label, by their limit


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage of judging is still expected to take: calls of one kind, or all of them."""

    calls: int
    input_tokens: int
    output_tokens: int
    cost: float


@dataclass(frozen=True, slots=True)
class JudgeEstimate:
    """What judging takes. Calls and tokens of what is still to be made are expectations, and so is their cost.

    `full`: what it would take where the judge gives every verdict on a fact, one a call; None where it does so.
    `cascade`: `cascade_view` of the recipe.
    """

    calls: Mapping[str, Calls]  # by kind
    input_tokens: int
    output_tokens: Range
    cost: Range
    stages: Mapping[str, Stage] = field(default_factory=dict)  # by kind
    full: Stage | None = None
    cascade: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values: calls, tokens, cost; and stages and full_judge where the judge gives not all verdicts."""
        view: dict[str, Any] = {
            "calls": _calls_to_json(self.calls),
            "tokens": {"input": self.input_tokens, "output": asdict(self.output_tokens)},
            "cost": asdict(self.cost),
        }
        if self.full is not None:
            view["stages"] = {kind: asdict(stage) for kind, stage in self.stages.items()}
            view["full_judge"] = asdict(self.full)
        if self.cascade is not None:
            view["cascade"] = dict(self.cascade)
        return view


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is still to be paid for a plan.

    Token counts are those of the policy's calls that are still to be made; `cost` is that of these calls and of
    judging.
    """

    plan_id: str
    questions: int
    examples: int
    most_pairs: int  # that its examples may give
    calls: Mapping[str, Calls]  # by kind
    input_tokens_total: int  # of all calls, made or not
    input_tokens: int
    output_tokens: Range
    cost: Range
    currency: str
    drops: Mapping[str, int]  # by reason
    warnings: tuple[str, ...]
    judge: JudgeEstimate | None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values: plan_id, questions, examples, most_pairs, calls, tokens, cost, judge, drops, warnings."""
        return {
            "plan_id": self.plan_id,
            "questions": self.questions,
            "examples": self.examples,
            "most_pairs": self.most_pairs,
            "calls": _calls_to_json(self.calls),
            "tokens": {
                "input_total": self.input_tokens_total,
                "input": self.input_tokens,
                "output": asdict(self.output_tokens),
            },
            "judge": self.judge.to_json() if self.judge is not None else None,
            "cost": {**asdict(self.cost), "currency": self.currency},
            "drops": dict(self.drops),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class CallSize:
    """Tokens of one call: of its prompt, and of its reply."""

    prompt: float
    reply: Range


def estimate(plan: Plan, recipe: Recipe, store: Store, ledger: Ledger) -> Estimate:
    """Compare a plan's calls with the ledger. Makes no call; raises StoreError and LedgerError.

    `recipe` is the one that the plan was made from.
    """
    totals: Counter[str] = Counter()  # calls by kind
    in_ledger: Counter[str] = Counter()
    paid_input = 0  # prompt tokens of the calls in the ledger
    lengths: Counter[int] = Counter()  # completion tokens of the answers in the ledger
    judging = _JudgeTally(plan, recipe, store, ledger)
    policy = recipe.policy
    reader = UsageReader(ByTokenizer(lambda: load_tokenizer(policy.tokenizer, policy.trust_remote_code)))
    later = LaterSamples()
    progress.expect("estimate", len(plan.shards))
    for shard in plan.shards:
        examples, contexts = load_shard(store, plan, shard.index)
        recorded = recorded_calls(examples, contexts, recipe, ledger, plan.special_tokens)
        totals.update(request.kind for request, _ in recorded.calls)
        if recipe.sampling.stop is None or read_shard_result(store, plan.plan_id, shard.index) is None:
            later += recorded.later
        for request, entry in recorded.calls:
            if entry is None:
                continue
            in_ledger[request.kind] += 1
            if entry.status == _PAID:
                usage = reader.of_entry(request.prompt, entry)
                paid_input += usage.prompt_tokens
                lengths[usage.completion_tokens] += 1
        judging.add(shard.index, examples, contexts)
        progress.advance("estimate")
    totals["sample"] += round(later.most)
    calls = {}
    for kind in sorted(totals):
        calls[kind] = Calls(totals[kind], in_ledger[kind], totals[kind] - in_ledger[kind])
    answer_tokens = answer_token_range(recipe.sampling.max_tokens, lengths)
    samples = None
    if recipe.sampling.stop is not None:
        to_make, saved = calls["sample"].to_make, (later.most - later.least, later.most - later.expected, 0.0)
        fewest, expected, most = (to_make - of_bound for of_bound in saved)
        calls["sample"] = replace(calls["sample"], range=Range(fewest, expected, most).rounded())
        samples = Range(*(totals["sample"] - of_bound for of_bound in saved)).part_of(plan.planned_questions)
    judge = judging.estimate(answer_tokens.expected, samples)
    return _priced(plan, recipe, calls, paid_input, answer_tokens, judge)


def currency(recipe: Recipe) -> str:
    """The one currency of all prices that are not zero."""
    for model in called_models(recipe).values():
        if not model.price.free:
            return model.price.currency
    return recipe.policy.price.currency


def size_of_call(kind: str, settings: Any, recipe: Recipe, context_tokens: int, answer_tokens: float) -> CallSize:
    """Tokens of one call to a judge, roughly, from its prompt file and the limits in a scorer's settings."""
    prompts = recipe.judge.prompts if recipe.judge else "full"
    step = getattr(settings, "list_step", kind) if kind == "facts" else kind
    name = f"judge-{prompts}-{step.replace('_', '-')}"
    text = load_prompt(name, "en").text if name in prompt_names("en") else "{question} {answer}"
    chunk = min(getattr(settings, "chunk_tokens", context_tokens), context_tokens)
    chunks = -(-context_tokens // max(chunk, 1))
    passages = min(chunk * getattr(settings, "nearest", 1), context_tokens)
    facts = getattr(settings, "facts_per_call", 1) if kind == BUNDLE_KIND else 1
    values = {
        "question": _SENTENCE,
        "statement": _SENTENCE,
        "statements": facts * (_SENTENCE + passages),
        "answer": answer_tokens,
        "first": answer_tokens,
        "second": answer_tokens,
        "reference": answer_tokens,
        "context": context_tokens,
        "chunk": chunk,
        "passages": passages,
        "notes": chunks * getattr(settings, "notes_tokens", 0) / 8,
    }
    prompt = len(text) / CHARACTERS
    for placeholder in re.findall(r"\{([a-z_]+)\}", text):
        prompt += values.get(placeholder, 0.0)
    if kind == REWARD_MODEL:
        return CallSize(prompt + (context_tokens if getattr(settings, "with_context", False) else 0.0), NOTHING)
    if kind == VERIFY:
        return CallSize(passages + _SENTENCE, NOTHING)
    thinking = _thinking(recipe)
    limit = getattr(settings, _LISTS.get(kind, "max_tokens"), recipe.sampling.max_tokens) * facts
    if prompts == "terse" and kind not in _LISTS:
        label = _LABEL * facts
        return CallSize(prompt, Range(label, label, max(limit, label)) + thinking)
    return CallSize(prompt, reply_token_range(limit, thinking))


@dataclass(frozen=True, slots=True)
class JudgeCalls:
    """Calls of one kind that a scorer is expected to make; an expectation is no whole number."""

    section: str  # of the recipe whose model is asked, or the reward model's name
    kind: str
    count: float
    size: CallSize


def judge_calls(recipe: Recipe, context_tokens: Mapping[int, int], answer_tokens: float) -> Iterator[JudgeCalls]:
    """The calls that scorers are expected to make: `context_tokens` counts examples by the tokens of their contexts.

    `answer_tokens` are those of one answer.
    """
    for tokens, examples in context_tokens.items():
        for scorer in parse_scorers(recipe):
            calls = expected_calls(scorer, recipe, tokens)
            for kind, calls_of_example in calls.items():
                section = VERIFIER if kind == VERIFY else _section_of(scorer, recipe)
                size = size_of_call(kind, scorer.settings, recipe, tokens, answer_tokens)
                yield JudgeCalls(section, kind, calls_of_example * examples, size)


def expected_answer_tokens(recipe: Recipe) -> float:
    """Tokens of one answer that are expected before there is any."""
    return answer_token_range(recipe.sampling.max_tokens, Counter()).expected


def scorer_price(scorer: ActiveScorer, recipe: Recipe) -> Price:
    """The price of the model that a scorer asks: the judge, or the policy or a reward model of the scorer's own."""
    return called_models(recipe)[_section_of(scorer, recipe)].call_price


def _section_of(scorer: ActiveScorer, recipe: Recipe) -> str:
    """The name, among those of `called_models`, of the model that a scorer asks."""
    if scorer.name == REWARD_MODEL and REWARD_MODEL in called_models(recipe):
        return REWARD_MODEL
    if recipe.judge is None or getattr(scorer.settings, "asked", "judge") == "policy":
        return "policy"
    return "judge"


def _thinking(recipe: Recipe) -> Range:
    """Tokens that a judge may think in one reply."""
    return thinking_range(recipe.judge.reasoning_tokens if recipe.judge else 0)


class _JudgeTally:
    """Adds up what the shards of a plan will ask the judge, one shard at a time."""

    def __init__(self, plan: Plan, recipe: Recipe, store: Store, ledger: Ledger) -> None:
        self._plan, self._recipe, self._store, self._ledger = plan, recipe, store, ledger
        self._in_ledger: Counter[str] = Counter()  # calls of finished shards, by kind
        self._unfinished: Counter[int] = Counter()  # examples of the other shards, by the tokens of their contexts

    def add(self, index: int, examples: Iterable[Example], contexts: Mapping[str, Context]) -> None:
        """Count a shard."""
        result = read_shard_result(self._store, self._plan.plan_id, index)
        if result is None:
            for example in examples:
                self._unfinished[contexts[example.context_id].tokens] += 1
            return
        keys: set[str] = set()
        judgements = self._store.read_table(result.files["judgements"].path, ["keys"])
        for keys_of_judgement in judgements.column("keys").to_pylist():
            keys.update(keys_of_judgement)
        for entry in _entries(self._ledger, sorted(keys)):
            self._in_ledger[entry.kind] += 1

    def estimate(self, answer_tokens: float, samples: Range | None = None) -> JudgeEstimate | None:
        """What to expect when an answer has so many tokens; None when no scorer asks a model.

        `samples`: of a question, where a stopping rule may save some; then the costs are those of its three values.
        """
        if samples is not None:
            few, expected, many = (
                self._of_samples(count).estimate(answer_tokens)
                for count in (samples.low, samples.expected, samples.high)
            )
            if few and expected and many:
                return replace(expected, cost=Range(few.cost.low, expected.cost.expected, many.cost.high))
            return None
        sums = self._sums(self._recipe, answer_tokens)
        kinds = sorted({*sums, *self._in_ledger})
        if not kinds:
            return None
        calls_by_kind = {}
        for kind in kinds:
            made, rest = self._in_ledger[kind], round(sums[kind].calls) if kind in sums else 0
            calls_by_kind[kind] = Calls(made + rest, made, rest)
        total = _total(sums.values())
        every_fact = judged_in_full(self._recipe)
        full = None if every_fact is None else _total(self._sums(every_fact, answer_tokens).values()).stage()
        stages = {kind: sums_of_kind.stage() for kind, sums_of_kind in sums.items()}
        tokens = round(total.prompts), total.replies.rounded()
        return JudgeEstimate(calls_by_kind, *tokens, total.cost.rounded(4), stages, full, cascade_view(self._recipe))

    def _of_samples(self, samples: float) -> "_JudgeTally":
        """What the same shards will ask about so many samples of each question."""
        sampling = self._recipe.sampling.model_copy(update={"samples": max(1, round(samples))})
        tally = copy(self)
        tally._recipe = self._recipe.model_copy(update={"sampling": sampling})
        return tally

    def _sums(self, recipe: Recipe, answer_tokens: float) -> dict[str, "_Sums"]:
        """What is still to be made, by kind of call."""
        sums: dict[str, _Sums] = {}
        models = called_models(recipe)
        for calls in judge_calls(recipe, self._unfinished, answer_tokens):
            size = calls.size
            of_calls = _Sums(
                calls.count,
                size.prompt * calls.count,
                size.reply.times(calls.count),
                cost_range(size.prompt, size.reply, models[calls.section].call_price).times(calls.count),
            )
            sums[calls.kind] = _total([sums[calls.kind], of_calls]) if calls.kind in sums else of_calls
        return sums


@dataclass(frozen=True, slots=True)
class _Sums:
    """Expected calls and their tokens; an expectation is no whole number."""

    calls: float = 0.0
    prompts: float = 0.0
    replies: Range = NOTHING
    cost: Range = NOTHING

    def stage(self) -> Stage:
        expected = round(self.replies.expected), round(self.cost.expected, 4)
        return Stage(round(self.calls), round(self.prompts), *expected)


def _total(parts: Iterable[_Sums]) -> _Sums:
    total = _Sums()
    for part in parts:
        calls, prompts = total.calls + part.calls, total.prompts + part.prompts
        total = _Sums(calls, prompts, total.replies + part.replies, total.cost + part.cost)
    return total


def _calls_to_json(calls: Mapping[str, Calls]) -> dict[str, dict[str, Any]]:
    return {kind: calls_of_kind.to_json() for kind, calls_of_kind in calls.items()}


def _priced(
    plan: Plan,
    recipe: Recipe,
    calls: Mapping[str, Calls],
    paid_input: int,
    answer_tokens: Range,
    judging: JudgeEstimate | None,
) -> Estimate:
    """The estimate, from prompt tokens of the calls in the ledger (`paid_input`) and tokens of one answer."""
    to_make = sum(calls_of_kind.to_make for calls_of_kind in calls.values())
    ranges = [calls_of_kind.to_make_range for calls_of_kind in calls.values()]
    calls_to_make = sum(ranges, NOTHING)
    total_input = sum(sample_prompt_tokens(shard, recipe) for shard in plan.shards)
    remaining_input = max(0, total_input - paid_input) if to_make else 0
    left = to_make  # calls that the remaining input is of
    if recipe.sampling.stop is not None:
        per_example = recipe.sampling.samples + int(recipe.sampling.greedy)
        left = per_example * plan.planned_questions - sum(calls_of_kind.in_ledger for calls_of_kind in calls.values())
    inputs = calls_to_make.part_of(left).times(remaining_input)
    output = Range(
        answer_tokens.low * calls_to_make.low,
        answer_tokens.expected * calls_to_make.expected,
        answer_tokens.high * calls_to_make.high,
    ).rounded()
    price = recipe.policy.call_price
    cost = Range(
        call_cost(inputs.low, output.low, price),
        call_cost(inputs.expected, output.expected, price),
        call_cost(inputs.high, output.high, price),
    )
    if judging is not None:
        cost += judging.cost
    return Estimate(
        plan_id=plan.plan_id,
        questions=plan.questions,
        examples=plan.planned_questions,
        most_pairs=plan.planned_questions * recipe.pairing.pairs_per_question,
        calls=calls,
        input_tokens_total=total_input,
        input_tokens=round(inputs.expected),
        output_tokens=output,
        cost=cost.rounded(4),
        currency=currency(recipe),
        drops=plan.drop_counts,
        warnings=plan.warnings,
        judge=judging,
    )


def _entries(ledger: Ledger, keys: Sequence[str]) -> Iterator[Entry]:
    """The entries of these keys that are in the ledger, looked up some thousand at a time."""
    for start in range(0, len(keys), _LOOKUP):
        yield from ledger.lookup(keys[start : start + _LOOKUP]).values()

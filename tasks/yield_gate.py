"""The yield gate: nothing is published when so many questions gave no pair that something must be broken.

Two kinds of drops are told apart by their reason. The method's own choices (`BY_DESIGN`: answers that tie, rows that
say themselves that they have no answer) never stop a run, however many they are. All others are faults. Those of
reading (a source that is read wrongly) are compared with `execution.max_drop_share` before any call, as a share of the
rows that were to give a pair; those of the run (a model that answered nothing, a judge that could not be read) at its
end, as a share of the questions that were put to the model, and shard by shard with `max_shard_drop_share`. What a
content filter stops is no fault. A dataset without a pair is never published, whatever the limits say.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from infra.errors import YieldError
from infra.recipe import Execution
from infra.store import Store
from tasks.asking.checks import BY_DESIGN as ASKED_BY_DESIGN
from tasks.asking.checks import STAGE as ASKING
from tasks.documents import STAGE as DOCUMENTS
from tasks.questions import REPEATS
from tasks.records import example as records
from tasks.records.example import Drop
from tasks.records.part import ShardPart
from tasks.records.plan import Plan
from tasks.records.product import PAIRS
from tasks.records.shard import ShardResult

FILTERED = "content_filter"  # the reason under which the gate counts what a filter stopped
SMALLEST_SHARD = 8  # questions; a smaller shard says too little by itself
_CHARACTERS = 300  # of an example's detail

# Reasons that no limit counts, by stage: the data's own, lengths that a plan shows, the provider's, the pairing rule's.
BY_DESIGN: Mapping[str, frozenset[str]] = {
    "read": frozenset({"unanswerable", "language", "code", "no_code"}),
    DOCUMENTS: frozenset({"language", "empty", "too_short", "too_long", "duplicate", "near_duplicate"}),
    "context": frozenset(
        {
            "prompt_too_long",
            "context_too_long",
            "too_long_to_train",
            "no_article",
            "no_evidence",
            "no_span",
            "no_neighbour",
        }
    ),
    "sample": frozenset({FILTERED}),
    "pair": frozenset({"tie", "small_margin", "near_identical"}),
    ASKING: ASKED_BY_DESIGN,
}
_PLANNING_STAGES = ("read", "context", DOCUMENTS)
_NO_SCORES = "too_few_scored"

_NO_TEXT = (
    "the policy's replies hold no text: look at the server's words and its log; `longmill doctor RECIPE` tries the "
    "endpoint"
)
_CUT_SHORT = f"{_NO_TEXT}; then --retry-drops asks again"
_WEAK_WRITER = "take a larger model to write and to answer (asking.model, asking.answerer), or other asking.kinds"
REMEDIES: Mapping[str, str] = {
    "no_answers": _NO_TEXT,
    "abort": _CUT_SHORT,
    "error": _CUT_SHORT,
    "unknown": _NO_TEXT,
    "unfinished_thinking": "raise sampling.max_tokens, which covers thinking and answer",
    "no_strong_answer": "the stronger model's reply holds no text: look at its endpoint, or raise sampling.max_tokens",
    "too_few_scored": "where answers are missing, look at the server that answers; where the judge's replies cannot be "
    "used, try the other judge.prompts (full, terse), a larger max_tokens of the scorer, judge.reasoning_tokens for a "
    "judge that thinks, or another judge",
    "cut_off": "raise sampling.max_tokens, or let answers that were cut off be chosen: pairing.cut_off_as_chosen",
    "tie": "raise sampling.samples or sampling.temperature, or score with more than one scorer",
    "small_margin": "lower pairing.min_margin",
    "near_identical": "raise sampling.temperature, or pairing.max_likeness",
    "duplicate_id": "give each row an id of its own, or leave the ids out",
    "invalid_text": "mend the texts at their source: they are no whole Unicode",
    "language": "set questions.language, or take rows in English or Chinese",
    "empty_question": "say where the question stands: questions.fields",
    "empty_context": "say where the text stands: questions.fields",
    "no_supporting_documents": "rows that bring their whole context need contexts.build: given",
    "no_messages": "contexts.build: history needs rows of chat messages: longmill formats FILE",
    "no_separator": "questions.fields.separator is not in these rows",
    "unclear_choice": "write the right option as its letter or as its text",
    "prompt_too_long": "raise policy.context_window, or build with a smaller contexts.max_tokens",
    "context_too_long": "raise contexts.max_tokens",
    "too_long_to_train": "raise training.max_length, or lower sampling.max_tokens",
    "no_evidence": "take questions whose rows say where the answer is: supporting documents among others, or the "
    "sentences that prove it (`evidence`), as longmill ask writes them",
    "no_code": "rows of LongBench's other tasks are read by the format longbench",
    "no_article": "give a contexts.pool that holds these articles",
    "refused": "the model declines: take another model, or texts that it answers about",
    "no_question": "the replies of the model that writes hold no question in JSON: try the other judge.prompts (full, "
    "terse), a larger asking.max_tokens, or another asking.model",
    "no_verdict": "the replies that check questions cannot be used: look at the model of asking.answerer",
    "tool_calls": "the model calls tools in place of answering: start its server without tools",
    "sample: prompt_too_long": "the server takes less than policy.context_window: start it with --max-model-len of "
    "that size, then the same command asks again (with --retry-drops, where the server tells no max_model_len), or "
    "lower policy.context_window",
    "failed": "look at the server's log for what it does with this prompt; --retry-drops asks again",
    "empty": "mend the documents at their source: they hold no text",
    "too_short": "lower documents.min_characters",
    "too_long": "raise documents.max_characters",
    "duplicate": "leave texts that come twice out of documents.source",
    "near_duplicate": "leave texts that are nearly the same out; of documents, raise documents.near_duplicates; of "
    "questions, lower asking.per_document or raise asking.checks.likeness",
    "no_span": "give longer documents, or other asking.kinds",
    "no_neighbour": "give documents on related matters, or take across_documents out of asking.kinds",
    "declined": "give documents with more in them, longer spans (asking.max_span_tokens) or other asking.kinds",
    "points_at_text": _WEAK_WRITER,
    "proof_not_verbatim": _WEAK_WRITER,
    "fails_kind_test": _WEAK_WRITER,
    "not_self_contained": _WEAK_WRITER,
    "answered_closed_book": "take documents that the policy has not learned by heart, or lower "
    "asking.checks.closed_book",
    "not_answered_from_proof": _WEAK_WRITER,
    "answered_without_sentence": _WEAK_WRITER,
    "answers_differ": _WEAK_WRITER,
    FILTERED: "take a model or a provider that reads such texts, or ask again with --retry-drops",
}
_OTHER_REMEDY = "look at the drops of the plan"
_PAID = "What was paid for is in the ledger"


@dataclass(slots=True)
class Yield:
    """Of `questions` that were to give a pair, how many did not, by reason, with one drop of each as an example."""

    questions: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    by_design: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Drop] = field(default_factory=dict)

    def add(self, drops: Iterable[Drop], filtered: frozenset[str] = frozenset()) -> None:
        """Count drops; `filtered` are ids of examples that a content filter stopped.

        What planning leaves out by design was never to give a pair, so it is no longer one of the questions.
        """
        for drop in drops:
            reason, chosen = drop.reason, drop.reason in BY_DESIGN.get(drop.stage, ())
            if drop.example_id in filtered:
                reason, chosen = FILTERED, True
            elif reason == "duplicate_id":
                chosen = REPEATS in drop.detail
            (self.by_design if chosen else self.faults)[reason] += 1
            self.examples.setdefault(reason, drop)
            if chosen and drop.stage in _PLANNING_STAGES:
                self.questions -= 1

    def merge(self, state: Mapping[str, Any]) -> None:
        """Count what the `state` of another yield has counted, after what is counted here."""
        self.questions += state["questions"]
        self.faults.update(state["faults"])
        self.by_design.update(state["by_design"])
        for reason, drop in state["examples"].items():
            self.examples.setdefault(reason, Drop(**drop))

    def state(self) -> dict[str, Any]:
        """What has been counted, as JSON values, for `merge`."""
        return {
            "questions": self.questions,
            "faults": dict(self.faults),
            "by_design": dict(self.by_design),
            "examples": {reason: asdict(drop) for reason, drop in self.examples.items()},
        }

    @property
    def drops(self) -> Counter[str]:
        """All drops by reason."""
        return self.faults + self.by_design

    @property
    def share(self) -> float:
        """Faults as a share of the questions; 0 where there is no question."""
        return self.faults.total() / self.questions if self.questions > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """JSON-ready figures of a build."""
        return {
            "questions": self.questions,
            "faults": dict(sorted(self.faults.items())),
            "by_design": dict(sorted(self.by_design.items())),
            "share": round(self.share, 4),
        }


def check_reading(store: Store, plan: Plan, execution: Execution) -> None:
    """Stop a plan before any call for the rows that could not be read. Raises YieldError."""
    outcome = reading_yield(store, plan)
    if outcome.share > execution.max_drop_share:
        fault = _too_many(f"plan {plan.plan_id}", outcome, "max_drop_share", execution.max_drop_share, store)
        raise YieldError(f"{fault}. No call was made")


def check_asked(store: Store, plan: Plan, source: str, execution: Execution) -> str:
    """Which rows of a file of evaluation questions are left out, in words; "" where none is.

    Raises YieldError where so many could not be read that the figures would be of other questions.
    """
    outcome = reading_yield(store, plan)
    if outcome.share > execution.max_drop_share:
        raise YieldError(
            f"{source}: {outcome.faults.total():,} of {outcome.questions:,} questions ({_percent(outcome.share)}) "
            f"cannot be asked, more than execution.max_drop_share = {execution.max_drop_share:g}. "
            f"{_most_frequent(outcome, outcome.faults, store)}; or evaluate on the others: "
            f"--set execution.max_drop_share={_at_least(outcome.share)}. No call was made"
        )
    if not outcome.drops:
        return ""
    words = f"{source}: {outcome.drops.total():,} of {outcome.questions:,} questions are left out. "
    return words + _most_frequent(outcome, outcome.drops, store)


def reading_yield(store: Store, plan: Plan) -> Yield:
    """What became of a plan's rows before any call."""
    outcome = Yield(plan.questions)
    if plan.drop_counts:
        outcome.add(records.from_table(store.read_table(plan.drops), Drop))
    return outcome


def check_shard(store: Store, plan: Plan, result: ShardResult, execution: Execution) -> None:
    """Stop at a shard most of whose questions failed, before the next ones are paid for. Raises YieldError."""
    if result.questions < SMALLEST_SHARD:
        return
    outcome = run_yield(store, [result])
    if outcome.share > execution.max_shard_drop_share:
        place, limit = f"shard {result.shard} of plan {plan.plan_id}", execution.max_shard_drop_share
        fault = _too_many(place, outcome, "max_shard_drop_share", limit, store, [result])
        share_of_plan = outcome.faults.total() / plan.planned_questions
        if share_of_plan > execution.max_drop_share:
            fault += f" --set execution.max_drop_share={_at_least(share_of_plan)}"
        raise YieldError(f"{fault}. {_PAID}")


def check_plan(
    store: Store,
    plan: Plan,
    results: Sequence[ShardResult],
    execution: Execution,
    parts: Mapping[int, ShardPart] | None = None,
) -> Yield:
    """The yield of a plan whose shards all have results. Raises YieldError when it is too small to be published.

    The tables of drops are read of those shards alone of which `parts`, by shard, has none.
    """
    outcome = run_yield(store, results, parts)
    place, limit = f"plan {plan.plan_id}", execution.max_drop_share
    if not sum(result.pairs for result in results):
        reasons = outcome if outcome.drops else reading_yield(store, plan)
        rows, single = ("questions", "pair") if plan.product == PAIRS else ("rows", "question")
        raise YieldError(
            f"{place}: none of its {plan.questions:,} {rows} gave a {single}, and a dataset without a {single} is "
            f"never published. {_most_frequent(reasons, reasons.drops, store, results)}"
        )
    if outcome.share > limit:
        raise YieldError(f"{_too_many(place, outcome, 'max_drop_share', limit, store, results)}. {_PAID}")
    return outcome


def warning_of(store: Store, plan: Plan, results: Sequence[ShardResult], outcome: Yield, execution: Execution) -> str:
    """A line about a dataset that is published with more faults than `execution.warn_drop_share`; else empty."""
    lines = []
    for part in (reading_yield(store, plan), outcome):
        if part.share > execution.warn_drop_share:
            lines.append(
                f"{part.faults.total():,} of {part.questions:,} questions ({_percent(part.share)}) gave no pair for a "
                f"fault, above execution.warn_drop_share = {execution.warn_drop_share:g}. "
                f"{_most_frequent(part, part.faults, store, results)}"
            )
    return ". ".join(lines)


def run_yield(store: Store, results: Sequence[ShardResult], parts: Mapping[int, ShardPart] | None = None) -> Yield:
    """What became of the questions of these shards; from their `parts`, by shard, where there are some."""
    outcome = Yield()
    for result in results:
        if parts and result.shard in parts:
            outcome.merge(parts[result.shard].outcome)
            continue
        outcome.questions += result.questions
        if result.drops:
            drops = records.from_table(result.files["drops"].read_checked(store), Drop)
            outcome.add(drops, _filtered(store, result, drops))
    return outcome


def _too_many(
    place: str, outcome: Yield, key: str, limit: float, store: Store, results: Sequence[ShardResult] = ()
) -> str:
    return (
        f"{place}: {outcome.faults.total():,} of {outcome.questions:,} questions ({_percent(outcome.share)}) gave no "
        f"pair for a fault, more than execution.{key} = {limit:g}; nothing is published. "
        f"{_most_frequent(outcome, outcome.faults, store, results)}; or go on all the same: "
        f"--set execution.{key}={_at_least(outcome.share)}"
    )


def _most_frequent(outcome: Yield, reasons: Counter[str], store: Store, results: Sequence[ShardResult] = ()) -> str:
    """The most frequent reason with its number, an example and what to do."""
    reason, count = min(reasons.items(), key=lambda item: (-item[1], item[0]))
    drop = outcome.examples[reason]
    detail = drop.detail
    if drop.reason == _NO_SCORES:
        detail += _judges_words(store, results, drop.example_id)
    detail = " ".join(detail.split())
    if len(detail) > _CHARACTERS:
        detail = f"{detail[: _CHARACTERS - 1]}…"
    remedy = REMEDIES.get(f"{drop.stage}: {reason}") or REMEDIES.get(reason, _OTHER_REMEDY)
    return f"Most often {reason} ({count:,}), as of {drop.example_id}: {detail}. Remedy: {remedy}"


def _at_least(share: float) -> str:
    """A limit that lets this share pass, to two decimals."""
    return f"{math.ceil(100 * share) / 100:g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _filtered(store: Store, result: ShardResult, drops: Sequence[Drop]) -> frozenset[str]:
    """Ids of the dropped examples all of whose missing scores a content filter stopped."""
    candidates = {drop.example_id for drop in drops if drop.reason == _NO_SCORES}
    if not candidates:
        return frozenset()
    columns = ["example_id", "reason"]
    reasons: dict[str, set[str]] = {}
    for row in result.files["judgements"].read_checked(store, columns).to_pylist():
        if row["example_id"] in candidates and row["reason"] is not None:
            cause = row["reason"].rpartition(": ")[2]  # without the step, as in "notes: content_filter"
            reasons.setdefault(row["example_id"], set()).add(cause)
    return frozenset(example_id for example_id, of_example in reasons.items() if of_example == {FILTERED})


def _judges_words(store: Store, results: Sequence[ShardResult], example_id: str) -> str:
    """Why an example's answers have no scores, and a reply of the judge where there is one."""
    for result in results:
        reasons: Counter[str] = Counter()
        reply = ""
        columns = ["example_id", "reason", "evidence"]
        for row in result.files["judgements"].read_checked(store, columns).to_pylist():
            if row["example_id"] == example_id and row["reason"] is not None:
                reasons[row["reason"]] += 1
                reply = reply or str(json.loads(row["evidence"]).get("reply") or "")
        if reasons:
            counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
            return f"; without a score: {counts}" + (f"; a reply: “{reply}”" if reply else "")
    return ""

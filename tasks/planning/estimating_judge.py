"""What judging will take, before there is an answer to judge: expectations, and what finished shards hold for certain.

How many calls each kind of judgement needs is the scorers' own word (`Scorer.calls`); equal facts and pruning save some
of them, replies that cannot be used cost some more. Tokens are rough: the prompt file at four characters a token, and
what it is filled with by its placeholders. A reply is expected to take a quarter of its limit, a label alone (terse
prompts) a few tokens. Shards that are finished count as they were: their calls are in the ledger.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.ledger import Ledger
from infra.models.budget import call_cost
from infra.recipe import Price, Recipe
from infra.store import Store
from tasks.judging.facts import BUNDLE_KIND
from tasks.planning.estimating_nouns import Calls, JudgeEstimate, Range
from tasks.prompts import load_prompt, prompt_names
from tasks.records.example import Context, Example
from tasks.records.plan import Plan
from tasks.records.shard import read_shard_result
from tasks.scoring import ActiveScorer, known_scorers, parse_scorers

_LOOKUP = 4096  # keys looked up in the ledger at once
_CHARACTERS = 4  # a token, in English prompts
_SENTENCE = 30  # tokens of a question or a statement
_LABEL = 8  # tokens of a reply that is a label alone
_LISTS = {"notes": "notes_tokens", "facts": "facts_tokens"}  # kinds whose replies are more than a label, by their limit


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens of one call: read, and written as low, expected and high."""

    read: float
    written: tuple[float, float, float]


class JudgeTally:
    """Adds up what the shards of a plan will ask the judge, one shard at a time."""

    def __init__(self, plan: Plan, recipe: Recipe, store: Store, ledger: Ledger) -> None:
        self._plan, self._recipe, self._store, self._ledger = plan, recipe, store, ledger
        self._scorers = parse_scorers(recipe)
        self._held: Counter[str] = Counter()
        self._open: Counter[int] = Counter()  # examples without a result, by the tokens of their contexts

    def add(self, index: int, examples: Iterable[Example], contexts: Mapping[str, Context]) -> None:
        """Count a shard."""
        result = read_shard_result(self._store, self._plan.plan_id, index)
        if result is None:
            self._open.update(contexts[example.context_id].tokens for example in examples)
            return
        table = self._store.read_table(result.files["judgements"].path, ["keys"])
        keys = sorted({key for row in table.column("keys").to_pylist() for key in row})
        for start in range(0, len(keys), _LOOKUP):
            self._held.update(entry.kind for entry in self._ledger.lookup(keys[start : start + _LOOKUP]).values())

    def estimate(self, answer_tokens: float) -> JudgeEstimate | None:
        """What is to be expected when an answer has so many tokens; None when no scorer asks a model."""
        to_make: dict[str, float] = {}
        read, written, money = 0.0, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        for tokens, count in self._open.items():
            for active in self._scorers:
                price = _price(active, self._recipe)
                calls = known_scorers()[active.name].calls(active.settings, self._recipe, tokens)
                for kind, each in calls.items():
                    size = size_of_call(kind, active.settings, self._recipe, tokens, answer_tokens)
                    to_make[kind] = to_make.get(kind, 0.0) + each * count
                    read += size.read * each * count
                    for place, some in enumerate(size.written):
                        written[place] += some * each * count
                        money[place] += call_cost(size.read, some, price) * each * count
        kinds = sorted({*to_make, *self._held})
        if not kinds:
            return None
        calls_by_kind = {kind: _calls(self._held[kind], to_make.get(kind, 0.0)) for kind in kinds}
        return JudgeEstimate(
            calls_by_kind,
            round(read),
            Range(*map(round, written)),
            Range(*(round(each, 4) for each in money)),
        )


def size_of_call(kind: str, settings: Any, recipe: Recipe, context_tokens: int, answer_tokens: float) -> Size:
    """Tokens of one call of a kind, roughly, from its prompt file, a scorer's settings and the limits in them."""
    prompts = recipe.judge.prompts if recipe.judge else "full"
    name = f"judge-{prompts}-{kind.replace('_', '-')}"
    text = load_prompt(name, "en").text if name in prompt_names("en") else "{question} {answer}"
    chunk = min(getattr(settings, "chunk_tokens", context_tokens), context_tokens)
    values = {
        "question": _SENTENCE,
        "statement": _SENTENCE,
        "answer": answer_tokens,
        "first": answer_tokens,
        "second": answer_tokens,
        "context": context_tokens,
        "chunk": chunk,
        "passages": min(chunk * getattr(settings, "nearest", 1), context_tokens),
        "notes": -(-context_tokens // max(chunk, 1)) * getattr(settings, "notes_tokens", 0) / 8,
    }
    facts = getattr(settings, "facts_per_call", 1) if kind == BUNDLE_KIND else 1
    values["statements"] = facts * (values["statement"] + values["passages"])
    filled = sum(values.get(placeholder, 0.0) for placeholder in re.findall(r"\{([a-z_]+)\}", text))
    limit = getattr(settings, _LISTS.get(kind, "max_tokens"), recipe.sampling.max_tokens) * facts
    if prompts == "terse" and kind not in _LISTS:
        label = _LABEL * facts
        return Size(len(text) / _CHARACTERS + filled, (label, label, max(limit, label)))
    return Size(len(text) / _CHARACTERS + filled, (limit / 8, limit / 4, limit))


def _calls(held: int, to_make: float) -> Calls:
    rest = round(to_make)
    return Calls(held + rest, held, rest)


def _price(active: ActiveScorer, recipe: Recipe) -> Price:
    """Of the model that a scorer asks: the judge, or the policy where a scorer says so."""
    asked = getattr(active.settings, "asked", "judge")
    return recipe.policy.price if asked == "policy" or recipe.judge is None else recipe.judge.price

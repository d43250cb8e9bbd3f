"""A plan in the store: its content, finding it, and reading its shards.

`plans/PLAN_ID/plan.json` is written last and never changed. Its id is the hash of the rest of it, and the tables
that it names are named by the hash of their bytes; both are checked when they are read.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from infra.canonical import canonical_json, fingerprint
from infra.errors import InputError, StoreError
from infra.store import Store
from tasks.records import example as records
from tasks.records.example import Context, Example
from tasks.records.product import PAIRS, PRODUCTS, Product
from tasks.records.table import read_checked

TOOL_CALLS, AS_MESSAGES = "tool_calls", "messages"  # rule of a plan some of whose histories have tool calls as messages
_PLAN_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """One shard: the paths of its two tables, and its counts. `prompt_tokens` counts one prompt of each example, with
    the whole context; `sample_tokens` those of all samples, null where each sees the whole context."""

    index: int
    examples: str
    contexts: str
    questions: int
    context_count: int
    prompt_tokens: int
    sample_tokens: int | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values, as in `plan.json`."""
        values = asdict(self)
        if self.sample_tokens is None:
            del values["sample_tokens"]
        return values


@dataclass(frozen=True, slots=True)
class Plan:
    """The content of `plan.json`. `questions` counts the rows read: planned examples + drops."""

    plan_id: str
    recipe: Mapping[str, Any]  # Recipe.identity()
    prompts: Mapping[str, str]  # "LANGUAGE/NAME" of each sampling prompt -> its fingerprint
    shards: tuple[PlannedShard, ...]
    questions: int
    drops: str  # path of the table of drops from reading and from contexts
    drop_counts: Mapping[str, int]  # by reason
    exact_prompt_tokens: bool
    warnings: tuple[str, ...]
    rules: Mapping[str, str] = field(default_factory=dict)  # that plans from before them do not have
    special_tokens: tuple[str, ...] = ()  # of the models' own, those in questions and contexts; broken up in prompts
    makes: str = PAIRS.name  # what its shards make

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values, as in `plan.json`."""
        values: dict[str, Any] = json.loads(canonical_json(asdict(self)))
        for optional in ("rules", "special_tokens"):
            if not values[optional]:
                del values[optional]
        values["shards"] = [shard.to_json() for shard in self.shards]
        if self.makes == PAIRS.name:
            del values["makes"]
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Plan":
        """The plan that `to_json` described."""
        shards = tuple(PlannedShard(**shard) for shard in values["shards"])
        lists = {name: tuple(values.get(name, ())) for name in ("warnings", "special_tokens")}
        return Plan(**{**values, **lists, "shards": shards})

    @property
    def planned_questions(self) -> int:
        """Questions of all shards."""
        return sum(shard.questions for shard in self.shards)

    @property
    def has_tool_calls(self) -> bool:
        """Whether messages of its prompts call tools."""
        return TOOL_CALLS in self.rules

    @property
    def product(self) -> Product:
        """What its shards make."""
        return PRODUCTS[self.makes]


def load_plan(store: Store, plan_id: str) -> Plan:
    """A plan of the store. Raises InputError when there is none of this id, StoreError when it is damaged."""
    path = plan_path(plan_id)
    if not _PLAN_ID.fullmatch(plan_id) or not store.exists(path):
        raise InputError(f"{store.url}: there is no plan {plan_id!r}; `longmill plan RECIPE` makes one")
    try:
        plan = Plan.from_json(json.loads(store.read(path)))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{store.place(path)}: damaged ({error}); remove it and plan again") from error
    if _id_of(plan) != plan_id:
        raise StoreError(f"{store.place(path)}: its content is not that of plan {plan_id}; remove it and plan again")
    return plan


def resolve_plan(store: Store, prefix: str) -> str:
    """The id of the one plan whose id begins with `prefix`. Raises InputError when there is none, or several."""
    if _PLAN_ID.fullmatch(prefix) and store.exists(plan_path(prefix)):
        return prefix
    _, folders = store.children("plans")
    ids = [folder.removeprefix("plans/") for folder in folders]
    matches = [plan_id for plan_id in ids if plan_id.startswith(prefix) and store.exists(plan_path(plan_id))]
    if len(matches) == 1:
        return matches[0]
    candidates = ", ".join(matches or ids) or "none"
    problem = "several plans begin" if matches else "no plan begins"
    raise InputError(f"{store.url}: {problem} with {prefix!r}; there are: {candidates}")


def load_shard(store: Store, plan: Plan, index: int) -> tuple[list[Example], dict[str, Context]]:
    """The examples of a shard, and its contexts by id.

    Raises InputError for a shard that the plan does not have, StoreError when a table is missing or damaged.
    """
    examples = load_examples(store, plan, index)
    contexts = records.from_table(_read_input(store, plan.shards[index].contexts), Context)
    return examples, {context.context_id: context for context in contexts}


def load_examples(store: Store, plan: Plan, index: int) -> list[Example]:
    """The examples of a shard, without the contexts. Raises as `load_shard`."""
    if not 0 <= index < len(plan.shards):
        raise InputError(f"plan {plan.plan_id} has the shards 0 to {len(plan.shards) - 1}, but no {index}")
    return records.from_table(_read_input(store, plan.shards[index].examples), Example)


def plan_path(plan_id: str) -> str:
    """The path of a plan in the store."""
    return f"plans/{plan_id}/plan.json"


def recipe_path(plan_id: str) -> str:
    """Where the recipe that a plan was last built with lies in the store."""
    return f"plans/{plan_id}/recipe.json"


def _read_input(store: Store, path: str) -> pa.Table:
    """A table of `inputs/`, checked against its name: `inputs/HASH.parquet`, with the sha256 of its bytes."""
    sha256 = path.rpartition("/")[2].removesuffix(".parquet")
    return read_checked(store, path, sha256, remedy="remove it and plan again")


def _id_of(plan: Plan) -> str:
    content = plan.to_json()
    del content["plan_id"]
    return fingerprint(content)[:16]

"""What the tasks of one run share in a process: store, ledger, model client, embedder, shards in memory.

Prefect tasks take plain strings and numbers, so that their parameters can be shown and cached; they find the
open workbench by the name they are given. Entering a workbench that is open already shares it.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

from infra.canonical import fingerprint
from infra.ledger import Ledger
from infra.models.budget import BudgetMeter
from infra.models.client import CallCounts, ModelClient
from infra.models.embedding import Embedder, open_embedder
from infra.recipe import Model, Recipe
from infra.running import progress
from infra.store import Store, open_store
from tasks.judging.memo import Memo
from tasks.records.example import Context, Example
from tasks.records.plan import Plan, load_shard
from tasks.sampling import ANSWERS, STRONG
from tasks.scoring import ScoringContext

Shard = tuple[list[Example], dict[str, Context]]

_open: dict[str, "RunResources"] = {}
_guard = threading.RLock()


@dataclass
class RunResources:
    """Open resources of a recipe; `name` finds them from any task of this process."""

    name: str
    recipe: Recipe
    store: Store
    ledger: Ledger
    client: ModelClient  # of the policy
    judge: ModelClient | None = None
    strong: ModelClient | None = None  # of a stronger model
    _memo: Memo = field(default_factory=Memo)
    _embedder: Embedder | None = None
    _shards: dict[str, Shard] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _users: int = 0
    _room: threading.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._room = threading.Semaphore(self.recipe.execution.shards_in_flight)

    def embedder(self) -> Embedder:
        """The recipe's sentence-embedding model, loaded at its first use."""
        with self._lock:
            if self._embedder is None:
                self._embedder = open_embedder(self.recipe.embedding, ledger=self.ledger)
            return self._embedder

    def scoring(self) -> ScoringContext:
        """What scorers may use of it."""
        return ScoringContext(self.embedder, self.client, self.recipe, self.judge, self._memo)

    def clients(self) -> list[ModelClient]:
        """Of every model that the recipe asks."""
        return [client for client in (self.client, self.judge, self.strong) if client is not None]

    def asked_for(self, sample_index: int) -> ModelClient:
        """The client whose model gives the answer of that index."""
        return self.strong if sample_index == STRONG and self.strong is not None else self.client

    def counts(self) -> dict[str, CallCounts]:
        """Calls to all models by kind."""
        total: dict[str, CallCounts] = {}
        for client in self.clients():
            for kind, counts in client.counts().items():
                total[kind] = total[kind].plus(**asdict(counts)) if kind in total else counts
        return total

    def counts_by_model(self) -> dict[str, dict[str, dict[str, int]]]:
        """Calls by the section of the recipe whose model is asked, then by kind; JSON-ready."""
        sections = {"policy": self.client, "judge": self.judge, "strong": self.strong}
        return {
            section: {kind: asdict(counts) for kind, counts in client.counts().items()}
            for section, client in sections.items()
            if client is not None
        }

    def hang_up(self) -> None:
        """Close the clients: calls in flight get a moment to be recorded, no other starts."""
        for client in self.clients():
            client.close()

    @contextlib.contextmanager
    def shard(self, plan: Plan, index: int) -> Iterator[Shard]:
        """Keep a shard's examples and contexts in memory while the block runs; waits while there are enough."""
        name = f"{plan.plan_id}-{index}"
        with self._room:
            shard = load_shard(self.store, plan, index)
            with self._lock:
                self._shards[name] = shard
            try:
                yield shard
            finally:
                with self._lock:
                    del self._shards[name]

    def first_look(self, plan: Plan) -> bool:
        """True for the first caller with this plan."""
        with self._lock:
            first = plan.plan_id not in self._seen
            self._seen.add(plan.plan_id)
            return first

    def shard_in_memory(self, plan_id: str, index: int) -> Shard:
        """The shard that `shard` keeps."""
        return self._shards[f"{plan_id}-{index}"]


@contextlib.contextmanager
def open_resources(recipe: Recipe) -> Iterator[RunResources]:
    """Open the workbench of a recipe, or share the one that is open, until the block ends."""
    name = fingerprint(recipe.model_dump(mode="json"))[:16]
    with _guard:
        bench = _open.get(name) or _open.setdefault(name, _open_bench(name, recipe))
        bench._users += 1
    try:
        yield bench
    finally:
        with _guard:
            bench._users -= 1
            last = bench._users == 0
            if last:
                del _open[name]
        if last:
            bench.hang_up()
            bench.ledger.close()


def bench_named(name: str) -> RunResources:
    """The open workbench that a task was given the name of."""
    return _open[name]


def _open_bench(name: str, recipe: Recipe) -> RunResources:
    store = open_store(recipe.store)
    ledger = Ledger(store)
    meter = BudgetMeter(recipe.budget)
    policy = _client(recipe.policy, recipe, ledger, meter, _sampled)
    judge = _client(recipe.judge, recipe, ledger, meter, _judged) if recipe.judge else None
    strong = _client(recipe.strong, recipe, ledger, meter, _sampled) if recipe.strong else None
    return RunResources(name, recipe, store, ledger, policy, judge, strong)


def _client(
    model: Model, recipe: Recipe, ledger: Ledger, meter: BudgetMeter, told: Callable[[str, int], None]
) -> ModelClient:
    execution = recipe.execution
    return ModelClient(
        model.endpoints,
        os.environ.get(model.api_key_env),
        ledger,
        concurrency=execution.concurrency,
        contexts_in_flight=execution.contexts_in_flight,
        timeout_s=execution.timeout_s,
        attempts=execution.attempts,
        budget=meter,
        price=model.price,
        api_key_env=model.api_key_env,
        progress=told,
    )


def _sampled(kind: str, done: int) -> None:
    """A call for an answer is one step of the stage "sample", one by which the policy rates itself of "judge".

    Evaluation counts its own questions.
    """
    if kind in ANSWERS:
        progress.advance("sample", done)
    elif not kind.startswith("evaluate"):
        progress.advance("judge", done)


def _judged(kind: str, done: int) -> None:
    progress.advance("judge", done)

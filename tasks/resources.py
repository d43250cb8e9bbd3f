"""What one run shares in a process: store, ledger, model clients, the embedding model."""

import contextlib
import functools
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from infra.errors import LongmillError, PrerequisiteError, StoppedError
from infra.ledger import Ledger
from infra.models.batches.scheduler import Batching
from infra.models.budget import BudgetMeter
from infra.models.client import CallCounts, ModelClient
from infra.models.embedding.embedder import Embedder, open_embedder
from infra.models.embedding.recorded import recorded_embedder
from infra.models.forms.request_form import RequestForm, headers_of
from infra.models.forms.settler import FormMemory, FormSettler
from infra.models.rates.limiter import RateLimiter, RateLimits, StoreClaims
from infra.models.refusals.lost_calls import LostCalls
from infra.models.refusals.recorded import CalledModel, RecordedRefusals
from infra.models.tokens import Tokenizer, load_tokenizer
from infra.models.usage import ByTokenizer
from infra.recipe import Model, Recipe
from infra.running import progress
from infra.running.stopping import next_signal_ends
from infra.running.telemetry import telemetry_on
from infra.serving.servers import starting_servers
from infra.store import Store, open_store
from tasks.activity import Activity, together
from tasks.judging.cache import SharedCache
from tasks.judging.context import ScoringContext
from tasks.judging.reward_settings import NAME as REWARD_MODEL
from tasks.judging.reward_settings import called_models
from tasks.judging.trial import JudgeTrial
from tasks.judging.verifier_settings import VERIFIER
from tasks.records.example import STRONG
from tasks.sampling import ANSWERS

EVALUATING = "evaluate"  # begins the kinds of evaluation's calls


class RunResources:
    """Open resources of a recipe. The clients are of the recipe's models; None where it names no such model."""

    def __init__(self, recipe: Recipe, retry_drops: bool = False) -> None:
        """`retry_drops`: calls that were refused before are made again."""
        self.recipe = recipe
        for section, model in called_models(recipe).items():
            headers_of(model, section)  # one that is missing must not be found with a ledger open
        self.store: Store = open_store(recipe.store)
        self.ledger = Ledger(self.store)
        meter = BudgetMeter(recipe.budget)
        models = called_models(recipe)
        self.refusals = RecordedRefusals(map(_called, models.values(), models), retry=retry_drops, say=progress.say)
        clients = {}
        self.activity = Activity()  # of this process
        for section, model in models.items():
            clients[section] = _client(section, model, recipe, self, meter)
        self.policy = clients["policy"]
        self.judge = clients.get("judge")
        self.strong = clients.get("strong")
        self.reward_model = clients.get(REWARD_MODEL)
        self.verifier = clients.get(VERIFIER)
        self.shards_in_memory = threading.Semaphore(recipe.execution.shards_in_flight)
        self.stopped: LongmillError | None = None  # why no further call is sent
        self._lock = threading.Lock()
        self._embedder: Embedder | None = None
        self._cache = SharedCache()
        judge_name = f"judge {recipe.judge.name}" if recipe.judge else "the judge"
        self._trial = JudgeTrial(recipe.execution.judge_trial, judge_name)
        self.counting_earlier_spending = threading.Lock()
        self.plans_counted: set[str] = set()  # plans whose earlier spending is counted
        self._reports: dict[str, Mapping[str, Any]] = {}  # of other processes of this run, by their names

    def embedder(self) -> Embedder:
        """The recipe's sentence-embedding model, loaded at its first use."""
        with self._lock:
            if self._embedder is None:
                self._embedder = open_embedder(self.recipe.embedding, ledger=self.ledger)
                if self.stopped is not None:
                    self._embedder.stop(self.stopped)
            return self._embedder

    def recorded_embedder(self) -> Embedder:
        """The same with its vectors in the ledger, so that texts which come again need no model."""
        return recorded_embedder(self.recipe.embedding, self.ledger, self.embedder)

    def scoring(self) -> ScoringContext:
        """What scorers may use of it."""
        clients = self.policy, self.recipe, self.judge, self._cache, self.reward_model
        return ScoringContext(self.embedder, *clients, self._trial, self.strong, self.verifier, self.ledger)

    def clients(self) -> dict[str, ModelClient]:
        """The clients by the section of the recipe, or by the scorer, that names their model."""
        sections = {
            "policy": self.policy,
            "judge": self.judge,
            "strong": self.strong,
            REWARD_MODEL: self.reward_model,
            VERIFIER: self.verifier,
        }
        return {section: client for section, client in sections.items() if client is not None}

    def client_of_answer(self, sample_index: int) -> ModelClient:
        """The client whose model gives the answer of that index."""
        return self.strong if sample_index == STRONG and self.strong is not None else self.policy

    def counts(self) -> dict[str, CallCounts]:
        """Calls to all models by kind."""
        total: dict[str, CallCounts] = {}
        for _, kind, counts in self._all_counts():
            total[kind] = total.get(kind, CallCounts()).plus(**asdict(counts))
        return total

    def counts_by_model(self) -> dict[str, dict[str, dict[str, int]]]:
        """Calls by the section of the recipe whose model was called, then by kind; JSON-ready."""
        total: dict[str, dict[str, CallCounts]] = {section: {} for section in self.clients()}
        for section, kind, counts in self._all_counts():
            kinds = total.setdefault(section, {})
            kinds[kind] = kinds.get(kind, CallCounts()).plus(**asdict(counts))
        by_model = {}
        for section, kinds in total.items():
            by_model[section] = {kind: asdict(counts) for kind, counts in kinds.items()}
        return by_model

    def _all_counts(self) -> Iterator[tuple[str, str, CallCounts]]:
        """Section, kind and calls: of the clients here, and of other processes."""
        for section, client in self.clients().items():
            for kind, counts in client.counts().items():
                yield section, kind, counts
        for report in list(self._reports.values()):
            for section, kinds in report["calls"].items():
                for kind, counts in kinds.items():
                    yield section, kind, CallCounts(**counts)

    def report(self) -> dict[str, Any]:
        """What this run has done, and is doing, in all its processes; JSON-ready."""
        in_flight = {section: client.in_flight for section, client in self.clients().items()}
        here = {**self.activity.to_json(), "in_flight": in_flight}
        here["waits"] = {**starting_servers(self.recipe), **here["waits"]}
        return {"calls": self.counts_by_model(), **together([here, *list(self._reports.values())])}

    def take_report(self, process: str, report: Mapping[str, Any]) -> None:
        """Count the `report` of another process of this run, in place of its last one."""
        for kinds in report["calls"].values():
            for counts in kinds.values():
                CallCounts(**counts)  # raises TypeError for a report of another version
        together([report])
        self._reports[process] = report

    def count_scored(self, questions: int, stage: str) -> None:
        """Count questions that are done with: their answers have scores, or they are checked. `stage` shows it."""
        self.activity.count_scored(questions)
        progress.advance(stage, questions)

    def settled(self) -> dict[str, list[str]]:
        """What servers' refusals have changed in the form of requests, by section, a line each; {} for most runs."""
        return {section: client.settled() for section, client in self.clients().items() if client.settled()}

    def stop(self, error: LongmillError) -> None:
        """Send no call from now on; whoever wants one gets `error`. Does not wait for the calls in flight."""
        self.stopped = self.stopped or error
        for client in self.clients().values():
            client.stop(error)
        if self._embedder is not None:
            self._embedder.stop(error)

    def stop_at_signal(self) -> None:
        """Stop, because a person or the platform says so; calls in flight get `execution.grace_s` to be recorded."""
        if self.stopped is None:
            grace_s = self.recipe.execution.grace_s
            progress.say(f"stopping: calls in flight get {grace_s:g} s to be recorded; a second signal ends at once")
        self.stop(StoppedError("a signal has stopped the run; nothing has failed, and the same command goes on"))
        with next_signal_ends():
            self.close_clients()

    def close_clients(self) -> None:
        """Calls in flight get `execution.grace_s` to be recorded; no other call starts."""
        deadline = time.monotonic() + self.recipe.execution.grace_s
        for client in self.clients().values():
            client.close(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Close clients, embedding model and ledger."""
        self.close_clients()
        if self._embedder is not None:
            self._embedder.close()
        self.ledger.close()


@contextlib.contextmanager
def open_resources(recipe: Recipe, retry_drops: bool = False) -> Iterator[RunResources]:
    """The resources of a recipe, open until the block ends."""
    with telemetry_on():
        resources = RunResources(recipe, retry_drops)
        try:
            yield resources
        except Exception:
            raise
        except BaseException:  # a signal
            resources.stop_at_signal()
            raise
        finally:
            resources.close()


def _called(model: Model, section: str) -> CalledModel:
    api_key = os.environ.get(model.api_key_env)
    return CalledModel(model.name, tuple(model.endpoints), api_key, headers_of(model, section))


def _client(section: str, model: Model, recipe: Recipe, resources: RunResources, meter: BudgetMeter) -> ModelClient:
    execution = recipe.execution
    store, activity = resources.store, resources.activity

    def show_wait(kind: str, text: str) -> None:
        progress.wait(_stage_of(kind), text)
        activity.note_wait(section, text)

    given = RequestForm.of(model)
    memory = None
    if not model.starts_here():  # vLLM takes every field that is sent
        memory = FormMemory(store, model.name, model.endpoints, given)
    return ModelClient(
        model.endpoints,
        os.environ.get(model.api_key_env),
        resources.ledger,
        concurrency=execution.concurrency * model.replicas(),
        contexts_in_flight=execution.contexts_in_flight * model.replicas(),
        timeout_s=execution.timeout_s,
        attempts=execution.attempts,
        budget=meter,
        price=model.call_price,
        api_key_env=model.api_key_env,
        progress=_advance,
        reasoning=model.reasoning,
        counter=ByTokenizer(lambda: _tokenizer(model.tokenizer, model.trust_remote_code)),
        form=FormSettler(given, memory, progress.say, section),
        headers=headers_of(model, section),
        try_first=not model.starts_here(),
        rates=_limiter(model, store),
        batching=_batching(section, model, store),
        waits=show_wait,
        failed=partial(activity.note_refusal, section),
        refusals=resources.refusals,
        lost=LostCalls(execution.task_retries + 1, at_once=execution.drop_failed),
        grace_s=execution.grace_s,
    )


def _batching(section: str, model: Model, store: Store) -> Batching | None:
    if model.mode == "live":
        return None
    return Batching(store, model.name, model.batch, lambda line: progress.say(f"{section}: {line}"))


def _limiter(model: Model, store: Store) -> RateLimiter | None:
    limits = RateLimits(model.requests_per_minute, model.tokens_per_minute)
    if limits == RateLimits():
        return None
    return RateLimiter(limits, StoreClaims(store, model.name, model.endpoints))


@functools.cache
def _tokenizer(name: str, trust_remote_code: bool) -> Tokenizer:
    """The tokenizer of that name. Raises PrerequisiteError where there is none: a reward model's is its server's."""
    if not name:
        raise PrerequisiteError("the model's tokenizer is its server's own")
    return load_tokenizer(name, trust_remote_code)


def _stage_of(kind: str) -> str:
    """A call for an answer counts for the stage "sample", a call by which the policy rates itself for "judge".

    Evaluation counts its own questions.
    """
    if kind in ANSWERS:
        return "sample"
    return EVALUATING if kind.startswith(EVALUATING) else "judge"


def _advance(kind: str, calls: int) -> None:
    stage = _stage_of(kind)
    if stage != EVALUATING:
        progress.advance(stage, calls)

"""The steps of a scorer: what it has to have done before it can go on. Who does it, and how, is not its matter.

A scorer is a generator. It yields a step, is sent the result, and in the end returns its judgements:

    verdicts = yield from ask(queries)             queries to the judge, all of one kind
    values = yield from compute("embed", jobs)     work on this machine, one job a question
    bounds = yield from pruning_bounds()           what the other scorers say; waits until they are done
    others = yield from other_judgements()         their judgements; waits likewise
    of_one = yield from judgements_of("claims")    those of one of them

Whoever runs the scorer cuts the queries and jobs of a step into micro-batches and runs each as a task.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from infra.models.protocol import CHAT, Prompt
from tasks.judging.pruning import PruningBounds
from tasks.records.example import AnswerId, Judgement

Value = TypeVar("Value")
ModelRole = Literal["judge", "policy", "strong", "reward_model", "verifier"]  # whom a query goes to


@dataclass(frozen=True, slots=True)
class ReplyForm:
    """The form of a reply where the server can constrain it: a regular expression, one of some strings, or JSON.

    The value of "json" is a JSON schema, as text.
    """

    kind: Literal["regex", "choice", "json"]
    value: str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JudgeQuery(Generic[Value]):
    """One query to the judge. `read` parses the text of a reply and raises Unusable."""

    kind: str  # of the call; calls are counted by it
    prompt: Prompt
    affinity: str  # context_id: calls that share it are sent together
    read: Callable[[str], Value]
    max_tokens: int
    form: ReplyForm | None = None
    variant: int = 0  # makes a call of its own out of an equal query, so that both are paid for
    cut: Literal["never", "if_readable"] = "if_readable"  # may a reply that was cut at max_tokens be read?
    attempts: int | None = None  # fewer than the judge's `replies`, where another attempt would bring the same
    reads: Literal["text", "raw"] = "text"  # raw: the whole JSON body, for logprobs
    parameters: tuple[tuple[str, Any], ...] = ()  # request parameters that replace the judge's own
    subject: str = ""  # what the query is about, for messages: "q7, answer 3", "q7, part 2 of 8"
    route: str = CHAT  # another one takes `parameters` alone: what it sends is no text


@dataclass(frozen=True, slots=True)
class Verdict(Generic[Value]):
    """The judge's verdict. `reason` says why there is no value; it is None when there is one."""

    value: Value | None
    reason: str | None
    reply: str  # text of the last reply; the server's message when there was no reply
    keys: tuple[str, ...]  # ledger keys of all attempts


@dataclass(frozen=True, slots=True)
class Job(Generic[Value]):
    """Work on this machine for one question. The value is JSON-ready."""

    run: Callable[[], Value]
    identity: Any  # JSON-ready: what the value depends on
    texts: int  # how much work it is
    example_id: str


@dataclass(frozen=True, slots=True)
class AskStep:
    """Queries of one kind; the result is the list of verdicts, in order."""

    queries: Sequence[JudgeQuery[Any]]
    role: ModelRole
    unit: str  # what one query is about, in the plural: "answers", "chunks", "facts"

    @property
    def kind(self) -> str:
        return self.queries[0].kind


@dataclass(frozen=True, slots=True)
class ComputeStep:
    """Jobs of one kind; the result is the list of their values, in order."""

    kind: str
    jobs: Sequence[Job[Any]]


@dataclass(frozen=True, slots=True)
class BoundsStep:
    """The result is PruningBounds, or None where no answer may be left unjudged. Waits for all other scorers."""


@dataclass(frozen=True, slots=True)
class OthersStep:
    """The result is the other scorers' judgements, by scorer and answer. Waits for them.

    `scorer`: the judgements of this one alone, and no wait for others.
    """

    scorer: str | None = None


Step = AskStep | ComputeStep | BoundsStep | OthersStep
Steps = Generator[Step, Any, list[Judgement]]


def ask(
    queries: Sequence[JudgeQuery[Value]], unit: str = "answers", role: ModelRole = "judge"
) -> Generator[Step, Any, list[Verdict[Value]]]:
    """The verdict on each query, in order. All queries are of one kind."""
    if not queries:
        return []
    verdicts: list[Verdict[Value]] = yield AskStep(queries, role, unit)
    return verdicts


def compute(kind: str, jobs: Sequence[Job[Value]]) -> Generator[Step, Any, list[Value]]:
    """The value of each job, in order."""
    if not jobs:
        return []
    values: list[Value] = yield ComputeStep(kind, jobs)
    return values


def other_judgements() -> Generator[Step, Any, Mapping[str, Mapping[AnswerId, Judgement]]]:
    """The judgements of the other scorers, by scorer and answer, once they are done."""
    judgements: Mapping[str, Mapping[AnswerId, Judgement]] = yield OthersStep()
    return judgements


def judgements_of(scorer: str) -> Generator[Step, Any, Mapping[AnswerId, Judgement]]:
    """The judgements of one other scorer by answer, once it is done; none where the recipe does not have it."""
    judgements: Mapping[str, Mapping[AnswerId, Judgement]] = yield OthersStep(scorer)
    return judgements.get(scorer, {})


def pruning_bounds() -> Generator[Step, Any, PruningBounds | None]:
    """What the other scorers say, once they are done; None where every answer has to be judged."""
    bounds: PruningBounds | None = yield BoundsStep()
    return bounds

"""What a suite's judge will be asked, as a plan counts it: by asking the judge, with the ledger in the model's place.

An answer that is in the ledger is judged as it is. So its judgements that are in the ledger are read, and asked for
again where they cannot be used, as an evaluation does. Of the answers to come a stand-in of the expected length is
judged. A reply that is missing counts as one call: as in estimate.py, those are not foreseen that it may take more.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from infra.errors import EvaluationError
from infra.ledger import Ledger
from infra.models.client import Failure, Outcome, Request, parse_reply
from infra.recipe import Judge, Recipe
from tasks.evaluation.judged import role_of
from tasks.evaluation.suites import ActiveSuite, JudgedSettings, SuiteAnswer
from tasks.judging.asking import ask_judge, judge_settings
from tasks.judging.context import ScoringContext
from tasks.judging.steps import AskStep, ComputeStep
from tasks.judging.trial import JudgeTrial
from tasks.planning.expected import CHARACTERS, NOTHING, Calls, Range, cost_range, reply_token_range, thinking_range
from tasks.scoring.run import run_to_end

PROBE = "probe"  # the one call that shows how a judge writes


@dataclass(frozen=True, slots=True)
class Part:
    """Calls of a suite for answers or for judgements, and what those take that are still to be made.

    `read_tokens`: input tokens that a server reads, where prompts that are sent several times are read once.
    """

    calls: Calls
    input_tokens: int
    read_tokens: int
    output_tokens: Range
    cost: Range

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values: calls, tokens, cost."""
        tokens = {"input": self.input_tokens, "output": asdict(self.output_tokens.rounded())}
        return {"calls": self.calls.to_json(), "tokens": tokens, "cost": asdict(self.cost.rounded(4))}


class ExpectedJudging:
    """Counts what a suite's judge is asked. `keys` are those of calls that were counted for an earlier suite."""

    def __init__(self, suite: ActiveSuite, recipe: Recipe, ledger: Ledger, keys: set[str]) -> None:
        assert isinstance(suite.settings, JudgedSettings)  # a suite with a judge has them
        self._suite = suite
        self._recipe = recipe
        self._role = role_of(suite.settings)
        self._scoring = ScoringContext(_no_embedder, None, recipe, trial=JudgeTrial(0))
        self._judge = judge_settings(self._scoring, self._role)
        self._replies = _RecordedReplies(self._judge, ledger, keys)

    def add(self, answers: Sequence[SuiteAnswer]) -> None:
        """Count what is asked about answers; each has a text."""
        judge = self._suite.suite.judge
        assert judge is not None  # it has a role
        if answers:
            run_to_end(judge.score(answers, self._suite.settings, self._scoring), self)

    def run(self, step: AskStep | ComputeStep) -> list[Future[list[Any]]]:
        """The verdicts as far as the ledger has them, as a StepRunner gives them."""
        if not isinstance(step, AskStep):
            raise EvaluationError(f"the suite {self._suite.label} does more than ask; its judge can only `ask`")
        verdicts: Future[list[Any]] = Future()
        verdicts.set_result(ask_judge(step.queries, self._scoring, step.role, self._replies))
        return [verdicts]

    def parts(self) -> dict[str, Part]:
        """What was counted, by kind of call."""
        parts = {}
        replies, price = self._replies, self._judge.call_price
        for kind, total in sorted(replies.total.items()):
            to_make, tokens, output = replies.to_make[kind], round(replies.prompts[kind]), replies.output[kind]
            cost = cost_range(tokens / to_make, output.part_of(to_make), price).times(to_make) if to_make else NOTHING
            calls = Calls(total, replies.in_ledger[kind], to_make)
            parts[kind] = Part(calls, tokens, tokens, output, cost)
        return parts


class _RecordedReplies:
    """In the place of a judge's client: gives the replies that the ledger has, and counts the calls, by kind."""

    def __init__(self, judge: Judge, ledger: Ledger, keys: set[str]) -> None:
        self._judge = judge
        self._ledger = ledger
        self._keys = keys  # of calls for earlier suites, which are made once
        self._earlier = frozenset(keys)
        self.total: Counter[str] = Counter()
        self.in_ledger: Counter[str] = Counter()
        self.to_make: Counter[str] = Counter()
        self.prompts: Counter[str] = Counter()  # tokens of the calls to make, as are `output`
        self.output: dict[str, Range] = {}

    def complete(self, requests: Sequence[Request]) -> list[Outcome]:
        """The replies of the ledger; of others a failure that is final."""
        entries = self._ledger.lookup([request.key for request in requests])
        outcomes: list[Outcome] = []
        for request in requests:
            entry = entries.get(request.key)
            if entry is None:
                outcomes.append(Failure(request.key, "not_in_ledger", "", True))
            else:
                outcomes.append(parse_reply(entry, self._judge.reasoning, request.route))
            if request.kind != PROBE:
                self._count(request, entry is not None)
        return outcomes

    def record_refusal(self, request: Request, failure: Failure) -> None:
        """Nothing is recorded in a plan."""

    def _count(self, request: Request, recorded: bool) -> None:
        kind = request.kind
        output = self.output.setdefault(kind, NOTHING)
        self.total[kind] += 1
        if recorded:
            self.in_ledger[kind] += 1
        elif request.key not in self._earlier:
            self._keys.add(request.key)
            self.to_make[kind] += 1
            characters = sum(len(str(message["content"])) for message in request.prompt.messages)
            self.prompts[kind] += round(characters / CHARACTERS)
            thinking = self._judge.reasoning_tokens
            longest = int(request.parameters["max_tokens"]) - thinking
            self.output[kind] = output + reply_token_range(longest, thinking_range(thinking))


def _no_embedder() -> NoReturn:
    raise EvaluationError("a suite's judge asks for embeddings, and a plan has none")

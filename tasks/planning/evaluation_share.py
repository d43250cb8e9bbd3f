"""What the evaluation after a build will take, beside the build: answers and judgements by suite, tokens, money.

The questions are those that `longmill evaluate` asks, generated or read as it does, and so are the prompts: their calls
and input tokens are exact. Output tokens are a range, as in estimate.py. A recipe that trains asks two models, the
policy and the trained one, whose answers are never in the ledger before it is there.

What a judge is asked is counted by asking a suite's judge about stand-ins for answers, of the expected length. So the
number of judgements is exact where every answer has text and no two models' answers are equal; fewer are asked
otherwise. Where it depends on what an answer holds (`SuiteJudge.like_answer`) it is an expectation. Judgements that are
in the ledger count as still to be made, and those that must be asked for again are not counted.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from infra.errors import EvaluationError
from infra.ledger import Ledger
from infra.models.tokens import Tokenizer, load_tokenizer
from infra.recipe import Recipe
from infra.store import Store
from tasks.evaluation.heldout import UnbuiltDataset
from tasks.evaluation.judged import role_of
from tasks.evaluation.preparing import Form, prepare
from tasks.evaluation.suite_questions import read_suite_questions
from tasks.evaluation.suites import ActiveSuite, JudgedSettings, SuiteAnswer, SuiteQuestion
from tasks.judging.asking import judge_settings
from tasks.judging.context import ScoringContext
from tasks.judging.steps import AskStep, JudgeQuery, Verdict
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
from tasks.records.dataset import Split
from tasks.records.plan import Plan

BASE, TRAINED = "base", "trained"
_TOGETHER = 64  # questions whose keys are looked up at once
_STAND_IN, _OTHER = "abc ", "xyz "  # a token each, of two models' answers
_NO_VERDICT: Verdict[Any] = Verdict(None, "expected", "", ())


@dataclass(frozen=True, slots=True)
class Part:
    """Calls of a suite for answers or for judgements, and what those take that are still to be made."""

    calls: Calls
    input_tokens: int
    output_tokens: Range
    cost: Range

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values: calls, tokens, cost."""
        tokens = {"input": self.input_tokens, "output": asdict(self.output_tokens.rounded())}
        return {"calls": self.calls.to_json(), "tokens": tokens, "cost": asdict(self.cost.rounded(4))}


@dataclass(frozen=True, slots=True)
class SuiteShare:
    """What a suite takes. `judgements`: by kind of call; `expected`: whether their number depends on the answers."""

    questions: int
    answers: Part
    judgements: Mapping[str, Part]
    expected: bool

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        judging = {kind: part.to_json() for kind, part in self.judgements.items()}
        view = {"questions": self.questions, "answers": self.answers.to_json(), "judgements": judging}
        return {**view, "expected": self.expected, "cost": asdict(self.cost.rounded(4))}

    @property
    def cost(self) -> Range:
        """Of all its calls that are still to be made."""
        return sum((part.cost for part in self.judgements.values()), self.answers.cost)


@dataclass(frozen=True, slots=True)
class EvaluationShare:
    """What the evaluation of some models takes, by the suites' labels."""

    models: tuple[str, ...]
    suites: Mapping[str, SuiteShare]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values: models, suites, cost."""
        suites = {label: share.to_json() for label, share in self.suites.items()}
        cost = sum((share.cost for share in self.suites.values()), NOTHING)
        return {"models": list(self.models), "suites": suites, "cost": asdict(cost.rounded(4))}


def evaluation_share(plan: Plan, recipe: Recipe, store: Store, ledger: Ledger) -> EvaluationShare | None:
    """What evaluating after a build of the plan takes; None for a recipe that does not evaluate. Makes no call.

    Raises EvaluationError where an evaluation would find no question, and what reading the questions raises.
    """
    if recipe.evaluation is None:
        return None
    models = (BASE, TRAINED) if recipe.training is not None else (BASE,)
    split = Split(recipe.seed, recipe.dataset.test_fraction)
    tokenizer = load_tokenizer(recipe.policy.tokenizer, recipe.policy.trust_remote_code)
    suites = {}
    keys: set[str] = set()
    for suite, questions in read_suite_questions(recipe, store, UnbuiltDataset(plan, split)):
        suites[suite.label] = _share(suite, questions, models, recipe, tokenizer, ledger, keys)
    return EvaluationShare(models, suites)


def _share(
    suite: ActiveSuite,
    questions: Sequence[SuiteQuestion],
    models: Sequence[str],
    recipe: Recipe,
    tokenizer: Tokenizer,
    ledger: Ledger,
    keys: set[str],
) -> SuiteShare:
    """`keys` are those of calls that were counted before, for another suite: they are made once."""
    total = in_ledger = to_make = 0  # calls
    prompts = 0  # tokens of those that are to be made
    limits: Counter[int] = Counter()  # calls to be made by their longest answer
    lengths: defaultdict[int, Counter[int]] = defaultdict(Counter)  # the same of tokens of the answers in the ledger
    judging = _Judging(suite, recipe)
    for start in range(0, len(questions), _TOGETHER):
        together = questions[start : start + _TOGETHER]
        forms = [
            (question, form) for question in together for form in prepare(question, suite, recipe, tokenizer).forms
        ]
        entries = ledger.lookup([request.key for _, form in forms for request in form.requests])
        for question, form in forms:
            limit = suite.answer_tokens(question.task, _longest(recipe))
            for request in form.requests:
                counted_before = request.key in keys
                keys.add(request.key)
                for model in models:
                    total += 1
                    entry = entries.get(request.key) if model == BASE else None
                    if entry is None and not counted_before:
                        to_make += 1
                        prompts += form.fitted.tokens
                        limits[limit] += 1
                    elif entry is not None:
                        in_ledger += 1
                        lengths[limit][entry.completion_tokens] += 1
        for model in models:
            judging.add(forms, model, _longest(recipe))
    output = NOTHING
    for limit, calls in limits.items():
        output += answer_token_range(limit, lengths[limit]).times(calls)
    mean = prompts / to_make if to_make else 0.0
    cost = cost_range(mean, output.part_of(to_make), recipe.policy.call_price).times(to_make) if to_make else NOTHING
    answers = Part(Calls(total, in_ledger, to_make), prompts, output, cost)
    judge = suite.suite.judge
    return SuiteShare(len(questions), answers, judging.parts(), judge is not None and judge.like_answer is not None)


def _longest(recipe: Recipe) -> int:
    """The longest answer in tokens, where a suite does not say."""
    assert recipe.evaluation is not None  # checked in evaluation_share
    return recipe.evaluation.max_tokens


class _Judging:
    """Counts what a suite's judge is asked about stand-ins for answers."""

    def __init__(self, suite: ActiveSuite, recipe: Recipe) -> None:
        self._suite = suite
        self._recipe = recipe
        self._calls: Counter[str] = Counter()  # by kind
        self._prompts: Counter[str] = Counter()  # tokens
        self._replies: dict[str, Range] = {}

    def add(self, forms: Sequence[tuple[SuiteQuestion, Form]], model: str, longest: int) -> None:
        """Count what is asked about a model's answers to these forms."""
        if self._suite.judge_role is None:
            return
        subjects = []
        for question, form in forms:
            tokens = round(answer_token_range(self._suite.answer_tokens(question.task, longest), Counter()).expected)
            text, baseline = self._answer(_STAND_IN, tokens), None
            if model != BASE:
                baseline = self._answer(_OTHER, tokens)
            subjects.append(SuiteAnswer(form.example, form.context, text, question.task, baseline))
        assert isinstance(self._suite.settings, JudgedSettings)  # a suite with a judge has them
        most_thinking = judge_settings(_no_models(self._recipe), role_of(self._suite.settings)).reasoning_tokens
        thinking = thinking_range(most_thinking)
        for query in self._queries(subjects):
            characters = sum(len(str(message["content"])) for message in query.prompt.messages)
            reply = reply_token_range(query.max_tokens, thinking)
            self._calls[query.kind] += 1
            self._prompts[query.kind] += round(characters / CHARACTERS)
            self._replies[query.kind] = self._replies.get(query.kind, NOTHING) + reply

    def parts(self) -> dict[str, Part]:
        """What was counted, by kind of call."""
        parts = {}
        for kind, calls in sorted(self._calls.items()):
            price = getattr(self._recipe, str(self._suite.judge_role)).call_price
            tokens, replies = self._prompts[kind], self._replies[kind]
            cost = cost_range(tokens / calls, replies.part_of(calls), price).times(calls)
            parts[kind] = Part(Calls(calls, 0, calls), tokens, replies, cost)
        return parts

    def _answer(self, token: str, tokens: int) -> str:
        judge = self._suite.suite.judge
        text = token * tokens
        return judge.like_answer(text) if judge is not None and judge.like_answer else text

    def _queries(self, subjects: Sequence[SuiteAnswer]) -> Iterator[JudgeQuery[Any]]:
        judge = self._suite.suite.judge
        assert judge is not None  # it has a role
        steps = judge.score(subjects, self._suite.settings, _no_models(self._recipe))
        verdicts: list[Verdict[Any]] | None = None
        while True:
            try:
                step = steps.send(verdicts)
            except StopIteration:
                return
            if not isinstance(step, AskStep):
                raise EvaluationError(f"the suite {self._suite.label} does more than ask; its judge can only `ask`")
            yield from step.queries
            verdicts = [_NO_VERDICT] * len(step.queries)


def _no_models(recipe: Recipe) -> ScoringContext:
    def no_embedder() -> NoReturn:
        raise EvaluationError("a suite's judge asks for embeddings, and a plan has none")

    return ScoringContext(no_embedder, None, recipe)

"""What the evaluation after a build will take, beside the build: answers and judgements by suite, tokens, money, hours.

The questions are those that `longmill evaluate` asks, generated or read as it does, and so are the prompts: their calls
and input tokens are exact. Output tokens are a range, as in estimate.py. A recipe that trains asks two models, the
policy and the trained one, whose answers are never in the ledger before it is there.

Calls are counted as those of a build: what is in the ledger, answers and judgements alike, is not paid for again; a
judgement that may have to be asked for again counts once; hours of GPUs come from the same speeds. The number of
judgements is exact where every answer has text and no two models' answers are equal; fewer are asked otherwise. Where
it depends on what an answer holds (`SuiteJudge.like_answer`) it is an expectation, until the answer is in the ledger.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infra.ledger import Entry, Ledger
from infra.models.client import parse_reply
from infra.models.tokens import Tokenizer, load_tokenizer
from infra.models.usage import ByTokenizer, UsageReader
from infra.recipe import Recipe
from infra.store import Store
from tasks.evaluation.heldout import UnbuiltDataset
from tasks.evaluation.preparing import Form, prepare
from tasks.evaluation.suite_questions import read_suite_questions
from tasks.evaluation.suites import ActiveSuite, SuiteAnswer, SuiteQuestion
from tasks.planning.expected import NOTHING, Calls, Range, answer_token_range, cost_range
from tasks.planning.expected_judging import ExpectedJudging, Part
from tasks.planning.sizing import JUDGE_SPEED, POLICY_SPEED, GpuSpeed
from tasks.records.dataset import Split
from tasks.records.plan import Plan
from tasks.sampling import answer_from

BASE, TRAINED = "base", "trained"
_TOGETHER = 64  # questions whose keys are looked up at once
_STAND_INS = {BASE: "abc ", TRAINED: "xyz "}  # a token each, of the answers to come
_PAID = 200  # status of a reply with a completion


@dataclass(frozen=True, slots=True)
class SuiteShare:
    """What a suite takes. `judgements`: by kind of call; `expected`: whether their number depends on the answers;
    `judge_role`: the section of the recipe whose model judges, None where none does."""

    questions: int
    answers: Part
    judgements: Mapping[str, Part]
    expected: bool
    judge_role: str | None

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

    def to_json(self, policy: GpuSpeed = POLICY_SPEED, judge: GpuSpeed = JUDGE_SPEED) -> dict[str, Any]:
        """JSON-ready values: models, suites, cost, GPU hours by section of the recipe at the speeds of one GPU."""
        suites = {label: share.to_json() for label, share in self.suites.items()}
        cost = sum((share.cost for share in self.suites.values()), NOTHING)
        hours: defaultdict[str, float] = defaultdict(float)
        for share in self.suites.values():
            answers = share.answers
            hours["policy"] += policy.hours(answers.read_tokens, answers.output_tokens.expected)
            for part in share.judgements.values():
                hours[str(share.judge_role)] += judge.hours(part.read_tokens, part.output_tokens.expected)
        gpu_hours = {section: round(value, 2) for section, value in hours.items()}
        return {"models": list(self.models), "suites": suites, "cost": asdict(cost.rounded(4)), "gpu_hours": gpu_hours}


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
    prompts = read = 0  # tokens of those that are to be made
    limits: Counter[int] = Counter()  # calls to be made by their longest answer
    lengths: defaultdict[int, Counter[int]] = defaultdict(Counter)  # the same of tokens of the answers in the ledger
    reader = UsageReader(ByTokenizer(lambda: tokenizer))
    judging = ExpectedJudging(suite, recipe, ledger, keys) if suite.judge_role else None
    for start in range(0, len(questions), _TOGETHER):
        together = questions[start : start + _TOGETHER]
        forms = [
            (question, form) for question in together for form in prepare(question, suite, recipe, tokenizer).forms
        ]
        entries = ledger.lookup([request.key for _, form in forms for request in form.requests])
        for question, form in forms:
            limit = suite.answer_tokens(question.task, _longest(recipe))
            counted_before = {request.key for request in form.requests if request.key in keys}
            keys.update(request.key for request in form.requests)
            for model in models:
                to_make_before = to_make
                for request in form.requests:
                    total += 1
                    entry = entries.get(request.key) if model == BASE else None
                    if entry is None and request.key not in counted_before:
                        to_make += 1
                        prompts += form.fitted.tokens
                        limits[limit] += 1
                    elif entry is not None:
                        in_ledger += 1
                        if entry.status == _PAID:
                            lengths[limit][reader.of_entry(request.prompt, entry).completion_tokens] += 1
                if to_make > to_make_before:  # the samples of a question share its prompt
                    read += form.fitted.tokens
        if judging is not None:
            for model in models:
                judging.add(_answers(forms, model, suite, recipe, entries))
    output = NOTHING
    for limit, calls in limits.items():
        output += answer_token_range(limit, lengths[limit]).times(calls)
    mean = prompts / to_make if to_make else 0.0
    cost = cost_range(mean, output.part_of(to_make), recipe.policy.call_price).times(to_make) if to_make else NOTHING
    answers = Part(Calls(total, in_ledger, to_make), prompts, read, output, cost)
    judge = suite.suite.judge
    expected = judge is not None and judge.like_answer is not None
    return SuiteShare(len(questions), answers, judging.parts() if judging else {}, expected, suite.judge_role)


def _longest(recipe: Recipe) -> int:
    """The longest answer in tokens, where a suite does not say."""
    assert recipe.evaluation is not None  # checked in evaluation_share
    return recipe.evaluation.max_tokens


def _answers(
    forms: Sequence[tuple[SuiteQuestion, Form]],
    model: str,
    suite: ActiveSuite,
    recipe: Recipe,
    entries: Mapping[str, Entry],
) -> list[SuiteAnswer]:
    """A model's greedy answers to these forms that have a text to judge: those of the ledger, stand-ins of others."""
    answers = []
    for question, form in forms:
        own = {name: _text(form, question, name, suite, recipe, entries) for name in (BASE, model)}
        if own[model].strip():
            baseline = None if model == BASE else own[BASE]
            answers.append(SuiteAnswer(form.example, form.context, own[model], question.task, baseline))
    return answers


def _text(
    form: Form,
    question: SuiteQuestion,
    model: str,
    suite: ActiveSuite,
    recipe: Recipe,
    entries: Mapping[str, Entry],
) -> str:
    """A model's greedy answer; one of the expected length where the ledger has none."""
    greedy = form.requests[0]
    entry = entries.get(greedy.key) if model == BASE else None
    if entry is not None:
        outcome = parse_reply(entry, recipe.policy.reasoning)
        return answer_from(form.example.example_id, greedy, outcome, recipe.sampling.strategy).text
    longest = suite.answer_tokens(question.task, _longest(recipe))
    text = _STAND_INS[model] * round(answer_token_range(longest, Counter()).expected)
    judge = suite.suite.judge
    return judge.like_answer(text) if judge is not None and judge.like_answer else text

"""Suites: what an evaluation asks, and how the answers are measured. A suite is one file with a constant `SUITE`.

A suite may give, and has a default for each of them:

    generate     its own questions: (settings, recipe, tokenizer) -> SuiteQuestions, made or read as it likes;
                 without it they are read from the entry's `questions`, in the suite's `format`, or they are the
                 held-out ones
    prepare      a question as it is asked: its task, its groups, another text, or several forms, whose scores are
                 averaged (options in another order)
    prompt       the name of a prompt file `tasks/prompts/LANGUAGE/NAME.txt` with {context} and {question}, by question;
                 None: the recipe's `sampling.strategy`
    metrics      scores of an answer in [0, 1], by name; one may look at `example.kind` to measure by task
    judge        a model that is asked about the answers: see `SuiteJudge`
    answer_tokens longest answer in tokens, by task; "" for all other tasks
    samples      answers drawn beside the greedy one; None: as `evaluation.samples` says
    average      what its headline is: the mean over "questions", or over "tasks" of the means of the tasks
    compares     whether it measures a model by the first one's answers, and so says nothing of one model alone
    summary      further figures of all rows together, as a length-controlled win rate

A recipe names suites in `evaluation.suites`: by name, or as a mapping of `name`, the keys of `SuiteSettings` and the
suite's own settings. An entry with a `label` is reported under it, so that a suite may be there twice.

An answer that a model or its judge did not give is missing with a reason, and never a number.
"""

import functools
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, ValidationError

from infra.errors import RecipeError
from infra.models.tokens import Tokenizer
from infra.plugins import find_plugins
from infra.recipe import Contexts, Positive, Questions, Recipe, RecipeSection
from infra.recipe.faults import faults_by_key
from tasks.evaluation.truncation import Fitted
from tasks.judging.context import ScoringContext
from tasks.judging.steps import Step
from tasks.records.example import Context, Example

NO_REFERENCE = "no_reference"
Group = float | str


class SuiteSettings(RecipeSection):
    """What every entry of `evaluation.suites` may say, beside the suite's own settings."""

    label: str = Field("", description="name in reports; without it, the suite's")
    questions: Questions | None = Field(
        None, description="questions of this suite; without them `evaluation.questions`, or the dataset's test split"
    )
    contexts: Contexts | None = Field(None, description="how its questions get their contexts; without it, as they are")
    max_tokens: Positive | None = Field(
        None, description="longest answer, in tokens; without it, as the suite says by task, or `evaluation.max_tokens`"
    )
    samples: int | None = Field(
        None, ge=0, description="samples for MBR@N beside greedy; without it, as the suite or `evaluation.samples` says"
    )


class JudgedSettings(SuiteSettings):
    """What an entry of a suite with a judge may say."""

    judge: Literal["judge", "strong", "none"] = Field(
        "judge", description="section of the recipe whose model judges; none: only what needs no judge is measured"
    )
    judge_tokens: Positive = Field(512, description="longest reply of the judge, in tokens")


@dataclass(frozen=True, slots=True)
class SuiteQuestion:
    """A question of a suite. `task` is what scores are averaged over before the macro average.

    `groups` are what figures are read by: "depth" in [0, 1], "position" an index, "length" the tokens that a generated
    prompt was made for, "language". `forms` are asked in place of the example, and their scores averaged; () where it
    is asked as it is. Questions with the same `shared` have contexts that begin alike, and are sent together, so that a
    server reads the beginning once; "": those with the same context are.

    `counted_by` is the tokenizer that `context.tokens` is the count of; "" where that is not certain. `fits` is what
    preparing.py has cut its forms to.
    """

    example: Example
    context: Context
    task: str = ""
    groups: Mapping[str, Group] = field(default_factory=dict)
    forms: tuple[tuple[Example, Context], ...] = ()
    shared: str = ""
    counted_by: str = ""
    fits: dict[str, Fitted] = field(default_factory=dict, compare=False, repr=False)

    @property
    def all_forms(self) -> tuple[tuple[Example, Context], ...]:
        """Its forms, or the example alone."""
        return self.forms or ((self.example, self.context),)


@dataclass(frozen=True, slots=True)
class SuiteAnswer:
    """An answer that has a text, and the form of the question that it answers.

    `baseline`: the first model's answer to the same form; None where this is the first model, "" where it has none.
    """

    example: Example
    context: Context  # the whole one, also where its middle was cut out of the prompt
    text: str
    task: str = ""
    baseline: str | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A score in [0, 1], or None with the reason why there is none."""

    value: float | None
    reason: str | None = None


Metric = Callable[[str, Example, Context], float | None]  # of an answer's text, in [0, 1]; None where it has no value
Scores = Mapping[str, Score]  # of one answer, by metric
Generated = Callable[[Any, Recipe, Tokenizer], Iterable[SuiteQuestion]]


@dataclass(frozen=True, slots=True)
class SuiteJudge:
    """How a model is asked about answers.

    `score(answers, settings, scoring)` is a generator of steps (`tasks/judging/steps.py`), as a scorer is: it yields
    `ask(queries, role=settings.judge)`, is sent the verdicts, and returns the scores of each answer, in order. The kind
    of its queries begins with "evaluate_", by which the calls are counted. `calls` says how many it makes for one
    question, in words. An answer without text is not judged: its scores are 0, or what `empty` says. Where the number
    of calls depends on an answer, `like_answer` makes one of the suite's form out of a text of the expected length; a
    plan counts the calls about it.
    """

    metrics: tuple[str, ...]
    score: Callable[[Sequence[SuiteAnswer], Any, ScoringContext], Generator[Step, Any, Sequence[Scores]]]
    calls: str = "1"
    empty: Callable[[SuiteAnswer], Scores] | None = None
    like_answer: Callable[[str], str] | None = None

    def of_empty(self, answer: SuiteAnswer) -> Scores:
        """The scores of an answer without text."""
        return self.empty(answer) if self.empty else dict.fromkeys(self.metrics, Score(0.0))


def _as_it_is(question: SuiteQuestion, settings: Any, seed: int) -> SuiteQuestion:
    return question


def _own_strategy(example: Example, settings: Any) -> str | None:
    return None


def _no_summary(rows: Any, baseline: Any, settings: Any) -> Mapping[str, float | None]:
    return {}


@dataclass(frozen=True, slots=True)
class Suite:
    """See the top of the file.

    A metric that is None for an answer counts as missing: for the reason that `reasons` gives for the metric, else
    because there is no reference. `summary(rows of a model, rows of the first model, settings)`; the second are None
    for the first model.
    """

    name: str
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    about: str = ""
    settings: type[SuiteSettings] = SuiteSettings
    format: str = "native"  # of its questions, where the entry does not say
    needs_references: bool = True  # questions without one are left out
    generate: Generated | None = None
    prepare: Callable[[SuiteQuestion, Any, int], SuiteQuestion] = _as_it_is
    prompt: Callable[[Example, Any], str | None] = _own_strategy
    judge: SuiteJudge | None = None
    answer_tokens: Mapping[str, int] = field(default_factory=dict)
    samples: int | None = None
    average: Literal["questions", "tasks"] = "questions"
    compares: bool = False
    summary: Callable[[Any, Any, Any], Mapping[str, float | None]] = _no_summary


@dataclass(frozen=True, slots=True)
class ActiveSuite:
    """An entry of `evaluation.suites`: a suite with its settings."""

    suite: Suite
    settings: SuiteSettings

    @property
    def label(self) -> str:
        """Its name in rows and reports."""
        return self.settings.label or self.suite.name

    @property
    def judge_role(self) -> str | None:
        """The section of the recipe whose model is asked; None where no model is."""
        role = getattr(self.settings, "judge", None)
        return None if self.suite.judge is None or role == "none" else role

    def answer_tokens(self, task: str, default: int) -> int:
        """Longest answer to a question of a task, in tokens."""
        by_task = self.suite.answer_tokens
        return self.settings.max_tokens or by_task.get(task) or by_task.get("") or default

    def samples(self, default: int) -> int:
        """Answers drawn beside the greedy one."""
        for number in (self.settings.samples, self.suite.samples):
            if number is not None:
                return number
        return default


@functools.cache
def all_suites() -> Mapping[str, Suite]:
    """All suites of this package, by name."""
    return find_plugins(__name__, "SUITE")


def find_suite(name: str) -> Suite:
    """The suite of that name. Raises RecipeError naming those there are."""
    if name not in all_suites():
        raise RecipeError(f"evaluation.suites: there is no suite {name!r}; there are: {', '.join(all_suites())}")
    return all_suites()[name]


def parse_suites(recipe: Recipe) -> list[ActiveSuite]:
    """The entries of `evaluation.suites`, checked, in their order; none where the recipe has no `evaluation`.

    Raises RecipeError naming the entry and the key.
    """
    active: dict[str, ActiveSuite] = {}
    for entry in recipe.evaluation.suites if recipe.evaluation else ():
        suite = _parsed(entry)
        if suite.label in active:
            raise RecipeError(
                f"evaluation.suites: two entries are called {suite.label!r}; give one of them another `label`"
            )
        role = suite.judge_role
        if role is not None and getattr(recipe, role) is None:
            raise RecipeError(
                f"evaluation.suites: {suite.label} asks the recipe's `{role}`, and there is no such section; add one, "
                "or give --judge NAME=URL, or set the entry's `judge` to none to measure only what needs no judge"
            )
        active[suite.label] = suite
    return list(active.values())


def with_judges_of_suites(recipe: Recipe) -> Recipe:
    """The recipe without the models that none of its suites asks: evaluation needs neither their servers nor keys."""
    roles = {suite.judge_role for suite in parse_suites(recipe)}
    return recipe.model_copy(update={role: None for role in ("judge", "strong") if role not in roles})


def _parsed(entry: str | Mapping[str, Any]) -> ActiveSuite:
    if isinstance(entry, str):
        entry = {"name": entry}
    settings = dict(entry)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise RecipeError("evaluation.suites: an entry has no `name`; write it as {name: NAME, ...settings}")
    suite = find_suite(name)
    try:
        return ActiveSuite(suite, suite.settings.model_validate(settings))
    except ValidationError as error:
        messages = [f"{key}: {problem}" if key else problem for key, problem in faults_by_key(error)]
        raise RecipeError(f"evaluation.suites[{name}]: {'; '.join(messages)}") from None

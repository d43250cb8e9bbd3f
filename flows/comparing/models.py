"""Several models on the same held-out questions: the policy, adapters, other recipes' policies, and checkpoints.

Without checkpoints all questions are asked of all models, and every model is compared with the first, the policy of the
recipe. The checkpoints of a training are asked the development questions alone; the best is asked the test questions,
beside the policy and the last one. What is in the ledger is asked again for nothing.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prefect import flow

from flows.evaluate import checked_overlap, examples_of, outcome_of, policy_rows, questions_and_servers, trained_rows
from infra.models.client import CallCounts
from infra.recipe import Recipe, parse_recipe
from infra.running import progress
from infra.running.run_page import announce
from infra.serving.servers import start_servers
from infra.store import open_store
from tasks.evaluation.compare import EvaluationRow
from tasks.evaluation.evaluate import SuiteQuestions, baseline_of
from tasks.evaluation.several import (
    ModelRows,
    best_step,
    score_to_choose_by,
    several_figures,
    split_questions,
)
from tasks.evaluation.statistics import Interval
from tasks.reporting.comparison_tables import choice_words, several_rows, several_words
from tasks.reporting.evaluated_card import write_evaluation_to_card
from tasks.reporting.evaluation_page import Several
from tasks.reporting.evaluation_plots import steps_plot
from tasks.reporting.evaluation_report import evaluation_command, write_evaluation
from tasks.reporting.plots import metric_name
from tasks.reporting.tables import markdown

STAGE = "models"
DEVELOPMENT = 0.5  # share of the contexts that choose a checkpoint

Calls = dict[str, Counter[str]]


@dataclass(frozen=True, slots=True)
class Contender:
    """A model that is compared with the recipe's policy.

    `seeds` are what the train flow returned, one for each training seed; `recipe` is another recipe, whose policy is
    asked; `step` is that of a checkpoint.
    """

    name: str
    seeds: tuple[Mapping[str, Any], ...] = ()
    recipe: Mapping[str, Any] | None = None
    step: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As a parameter of a flow."""
        return asdict(self)


@flow(name="compare-models", flow_run_name="compare models on {recipe[name]}", validate_parameters=False)
def compare_models(
    recipe: dict[str, Any],
    manifest: str | None,
    contenders: list[dict[str, Any]],
    checkpoints: list[dict[str, Any]] | None = None,
    metric: str | None = None,
    development: float = DEVELOPMENT,
    command: str | None = None,
) -> dict[str, Any]:
    """Evaluate several models (`Contender.to_json`) on the same questions, the policy of the recipe first.

    `command`: the one that the report names, where it is not that of the recipe.

    `checkpoints` are those of one training, in the order of their steps: the best by `metric` on the `development`
    share of the contexts is reported, with everything else, on the rest.

    Returns {"models": `several_figures`, "choice": {"metric", "step", "curve": [{"step", "figure"}], "base",
    "development", "test"} or null, "calls", "overlap", "report": the folder of the report}.
    """
    comparison = _Comparison(parse_recipe(recipe), manifest, command)
    models = [Contender(**{**one, "seeds": tuple(one["seeds"])}) for one in contenders]
    steps = [Contender(**{**one, "seeds": tuple(one["seeds"])}) for one in checkpoints or ()]
    with questions_and_servers(comparison.recipe, manifest) as (questions, settings):
        outcome = comparison.run(questions, settings, models, steps, metric, development)
    announce("models", markdown(*several_rows(outcome["models"])))
    return outcome


class _Comparison:
    """One comparison: the rows that were made, and their calls."""

    def __init__(self, recipe: Recipe, manifest: str | None, command: str | None) -> None:
        self.recipe = recipe
        self._command = command
        self._manifest = manifest
        self._calls: Calls = {}
        self._overlap: dict[str, Any] | None = None

    def run(
        self,
        questions: SuiteQuestions,
        settings: Recipe,
        models: Sequence[Contender],
        checkpoints: Sequence[Contender],
        metric: str | None,
        development: float,
    ) -> dict[str, Any]:
        """See `compare_models`."""
        for contender in [*models, *checkpoints]:
            for trained in contender.seeds:
                self._check(questions, settings, trained)
        choice, options = None, _options(models, checkpoints)
        if checkpoints:
            first, questions = split_questions(questions, self.recipe, development)
            choice, best = self._choose(first, settings, checkpoints, metric)
            choice["test"] = sum(len(of_suite) for _, of_suite in questions)
            last = [] if checkpoints[-1] is best else [checkpoints[-1]]
            models = [*models, best, *last]
        progress.expect(STAGE, 1 + len(models))
        base, counts = policy_rows(questions, settings, None, in_tasks=True)
        self._count("", counts)
        progress.advance(STAGE)
        compared = [ModelRows(self.recipe.policy.name, [base])]
        for contender in models:
            compared.append(self._rows(questions, settings, contender, base))
            progress.advance(STAGE)
        figures = several_figures(compared, self.recipe)
        detailed = compared[-1] if choice is None else compared[1 + models.index(best)]
        outcome = outcome_of(base, detailed.runs[0], {}, settings)
        outcome |= {"calls": {kind: dict(counts) for kind, counts in self._calls.items()}, "overlap": self._overlap}
        several = _several(figures, choice, detailed.name)
        store = open_store(self.recipe.store)
        command = self._command or evaluation_command("compare", self.recipe, self._manifest, options)
        report = write_evaluation(
            store,
            self.recipe,
            outcome,
            base,
            detailed.runs[0],
            examples_of(questions),
            after_name=detailed.name,
            command=command,
            several=several,
        )
        if choice is not None:
            write_evaluation_to_card(store, best.seeds[0]["model"], best.name, outcome["suites"], command)
        return {
            "models": figures,
            "choice": choice,
            "calls": outcome["calls"],
            "overlap": self._overlap,
            "report": report["report"],
        }

    def _check(self, questions: SuiteQuestions, settings: Recipe, trained: Mapping[str, Any]) -> None:
        """Raises ContaminationError; remembers the overlap with the most leaks."""
        overlap = checked_overlap(settings, questions, self._manifest, dict(trained))
        if overlap and (self._overlap is None or overlap["leaked"] > self._overlap["leaked"]):
            self._overlap = overlap

    def _choose(
        self, questions: SuiteQuestions, settings: Recipe, checkpoints: Sequence[Contender], metric: str | None
    ) -> tuple[dict[str, Any], Contender]:
        """The best checkpoint on the development questions, and the curve that says so."""
        progress.expect(STAGE, 1 + len(checkpoints))
        base, counts = policy_rows(questions, settings, None, in_tasks=True)
        self._count(" development", counts)
        progress.advance(STAGE)
        metric, base_figure = score_to_choose_by(base, metric, self.recipe)
        figures: list[tuple[int, Interval]] = []
        for checkpoint in checkpoints:
            assert checkpoint.step is not None
            rows = self._rows(questions, settings, checkpoint, base, " development").runs[0]
            figures.append((checkpoint.step, score_to_choose_by(rows, metric, self.recipe)[1]))
            progress.advance(STAGE)
        step = best_step(figures)
        choice = {
            "metric": metric,
            "step": step,
            "base": asdict(base_figure),
            "curve": [{"step": place, "figure": asdict(figure)} for place, figure in figures],
            "development": sum(len(of_suite) for _, of_suite in questions),
        }
        return choice, next(checkpoint for checkpoint in checkpoints if checkpoint.step == step)

    def _rows(
        self,
        questions: SuiteQuestions,
        settings: Recipe,
        contender: Contender,
        base: Sequence[EvaluationRow],
        note: str = "",
    ) -> ModelRows:
        runs: list[Sequence[EvaluationRow]] = []
        baseline = baseline_of(base)
        for trained in contender.seeds:
            rows, counts = trained_rows(questions, settings, dict(trained), baseline, in_tasks=True)
            runs.append(rows)
            self._count(f" {contender.name}{note}", counts)
        if contender.recipe is not None:
            with _policy_of(contender.recipe, settings) as other:
                rows, counts = policy_rows(questions, other, baseline, in_tasks=True)
            runs.append(rows)
            self._count(f" {contender.name}", counts)
        return ModelRows(contender.name, runs, contender.step)

    def _count(self, note: str, counts: Mapping[str, CallCounts]) -> None:
        for kind, of_kind in counts.items():
            self._calls.setdefault(f"{kind}{note}", Counter()).update(asdict(of_kind))


@contextlib.contextmanager
def _policy_of(recipe: Mapping[str, Any], settings: Recipe) -> Iterator[Recipe]:
    """`settings` with the policy of another recipe, whose server runs until the block ends."""
    other = parse_recipe(dict(recipe)).model_copy(update={"judge": None, "strong": None})
    with start_servers(other, waiting=True) as servers:
        yield settings.model_copy(update={"policy": servers.with_endpoints().policy})


def _options(models: Sequence[Contender], checkpoints: Sequence[Contender]) -> list[tuple[str, str]]:
    """The options of `longmill compare` that name these models."""
    options = []
    for contender in models:
        if contender.recipe is not None:
            options.append(("--with", f"{contender.recipe['name']}.yaml"))
        else:
            folders = ",".join(str(trained["model"]) for trained in contender.seeds)
            named = contender.name != contender.seeds[0]["name"]
            options.append(("--model", f"{contender.name}={folders}" if named else folders))
    if checkpoints:
        options.append(("--checkpoints", str(checkpoints[0].seeds[0]["model"]).partition("/checkpoints/")[0]))
    return options


def _several(figures: list[dict[str, Any]], choice: dict[str, Any] | None, detailed: str) -> Several:
    """What the report's page shows of all models."""
    about = f"Every model on the same questions; below, {figures[0]['name']} and {detailed} in detail."
    notes, plot = several_words(figures), None
    if choice is not None:
        notes.insert(0, choice_words(choice))
        plot = steps_plot(choice["curve"], choice["base"], choice["step"], choice["metric"])
    return Several(
        {"models": figures, "choice": choice},
        about,
        [several_rows(figures)],
        notes,
        plot,
        f"{metric_name(choice['metric'])} over the steps of the training" if choice else "",
    )

"""Running the scorers of a recipe over some questions: the frame that every scorer works in.

The frame splits off the answers without text and gives them a null score with the reason, so that a scorer cannot
forget them. It drives each scorer from step to step: the scorers of a question work side by side, a step goes on as
soon as its results are there, and a scorer that wants to prune waits until the others are done. What a step takes is
done by a `StepRunner`: as Prefect tasks in a shard (`tasks/step_tasks.py`), or at once in this thread (`InThread`).
"""

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from infra.errors import BalanceError
from infra.recipe import Recipe, RecipeSection
from tasks.judging.asking import ask_judge
from tasks.judging.context import AnsweredQuestion, ScoringContext, no_text_reason
from tasks.judging.pruning import PruningBounds, ScoreBounds
from tasks.judging.refusals import unfounded_refusals
from tasks.judging.steps import AskStep, BoundsStep, ComputeStep, OthersStep, Step, Steps
from tasks.pairing import extremes_alone
from tasks.records.example import Answer, AnswerId, Judgement
from tasks.scoring import ActiveScorer, known_scorers

Value = TypeVar("Value")
JudgedBefore = Sequence[tuple[Answer, Mapping[str, Judgement]]]  # an answer, and its judgements by scorer


class StepRunner(Protocol):
    """Does what a step asks for: one future for each micro-batch, whose results in turn are the step's."""

    def run(self, step: AskStep | ComputeStep) -> list[Future[list[Any]]]: ...


class InThread:
    """Runs every step at once, in the calling thread."""

    def __init__(self, scoring: ScoringContext) -> None:
        self._scoring = scoring

    def run(self, step: AskStep | ComputeStep) -> list[Future[list[Any]]]:
        future: Future[list[Any]] = Future()
        if isinstance(step, AskStep):
            future.set_result(ask_judge(step.queries, self._scoring, step.role))
        else:
            future.set_result([job.run() for job in step.jobs])
        return [future]


def run_to_end(steps: Generator[Step, Any, Value], runner: StepRunner) -> Value:
    """Run steps that wait for nobody else, one after another; returns what they return. Raises what a step raises."""
    results: list[Any] | None = None
    while True:
        try:
            step = steps.send(results)
        except StopIteration as end:
            value: Value = end.value
            return value
        assert isinstance(step, AskStep | ComputeStep)  # the others are of scorers that wait for scorers
        results = []
        for future in runner.run(step):
            results.extend(future.result())


def score_answers(
    questions: Sequence[AnsweredQuestion],
    scorers: Sequence[ActiveScorer],
    scoring: ScoringContext,
    runner: StepRunner | None = None,
    earlier: JudgedBefore | None = None,
) -> list[Judgement]:
    """Every scorer's judgement of every answer: by question, then answer, then scorer.

    `earlier`: other answers to these questions that were judged before, and what was said of them; pruning counts them.
    Raises BalanceError when a scorer has left an answer out, judged it twice, or scored one without text.
    """
    split = [_split_off_without_text(question) for question in questions]
    runs = [_ScorerRun(scorer, split, scoring) for scorer in scorers]
    _drive(runs, scorers, scoring.recipe, runner or InThread(scoring), earlier or [])
    judgements = []
    for question in questions:
        for answer in question.answers:
            for run in runs:
                assert run.judgements is not None  # every run is at its end
                judgements.append(run.judgements[answer.id])
    return judgements


def score_with(
    name: str, settings: RecipeSection, questions: Sequence[AnsweredQuestion], scoring: ScoringContext
) -> list[Judgement]:
    """The judgements of one scorer alone, in this thread: one for each answer, in order. Nothing is pruned."""
    return score_answers(questions, [ActiveScorer(name, 1.0, settings)], in_full(scoring))


def in_full(scoring: ScoringContext) -> ScoringContext:
    """The same where every scorer judges every answer: nothing is pruned."""
    recipe = scoring.recipe
    return replace(scoring, recipe=recipe.model_copy(update={"scoring": recipe.scoring.in_full()}))


def _split_off_without_text(question: AnsweredQuestion) -> AnsweredQuestion:
    with_text = tuple(answer for answer in question.answers if no_text_reason(answer) is None)
    without_text = tuple(answer for answer in question.answers if no_text_reason(answer) is not None)
    return replace(question, answers=with_text, without_text=without_text)


class _ScorerRun:
    """One scorer on its way through its steps."""

    def __init__(self, scorer: ActiveScorer, questions: Sequence[AnsweredQuestion], scoring: ScoringContext) -> None:
        self.scorer = scorer
        self.step: Step | None = None  # the one that it waits for
        self.futures: list[Future[list[Any]]] = []  # of that step
        self.judgements: dict[AnswerId, Judgement] | None = None  # of all answers, when it is done
        self.questions = questions
        self._steps: Steps | None = None
        started = known_scorers()[scorer.name].score(questions, scorer.settings, scoring)
        if isinstance(started, list):
            self.judgements = self._of_all_answers(started)
        else:
            self._steps = started
            self.go_on(None)

    def go_on(self, result: Any) -> None:
        """Send the result of the step that it waits for; None starts it."""
        assert self._steps is not None
        try:
            self.step = self._steps.send(result)
        except StopIteration as end:
            self.step = None
            self.judgements = self._of_all_answers(end.value)
        self.futures = []

    def _of_all_answers(self, scored: list[Judgement]) -> dict[AnswerId, Judgement]:
        """The scorer's judgements, and null for the answers without text that it left out."""
        judgements = list(scored)
        name = self.scorer.name
        judged = {judgement.answer_id: judgement for judgement in judgements}
        expected: set[AnswerId] = set()
        for question in self.questions:
            expected.update(answer.id for answer in (*question.answers, *question.without_text))
            for answer in question.without_text:
                if answer.id not in judged:
                    judged[answer.id] = answer.judged(name, None, no_text_reason(answer))
                    judgements.append(judged[answer.id])
                elif judged[answer.id].score is not None:
                    raise BalanceError(f"scorer {name!r} gave a score to an answer without text: {answer.id}")
        if len(judgements) != len(expected) or judged.keys() != expected:
            raise BalanceError(f"scorer {name!r} gave {len(judgements)} judgements on {len(expected)} answers")
        return judged


def _drive(
    runs: Sequence[_ScorerRun],
    scorers: Sequence[ActiveScorer],
    recipe: Recipe,
    runner: StepRunner,
    earlier: JudgedBefore,
) -> None:
    """Bring every run to its end."""
    while open_runs := [run for run in runs if run.step is not None]:
        moved = False
        for run in open_runs:
            if isinstance(run.step, BoundsStep | OthersStep):
                others = _waited_for(run, runs)
                if all(other.judgements is not None for other in others):
                    if isinstance(run.step, OthersStep):
                        run.go_on({other.scorer.name: other.judgements for other in others})
                    else:
                        run.go_on(_pruning_bounds(run, others, scorers, recipe, earlier))
                    moved = True
            elif run.step is not None and not run.futures:
                run.futures = runner.run(run.step)
                moved = True
            elif all(future.done() for future in run.futures):
                results: list[Any] = []
                for future in run.futures:
                    results.extend(future.result())
                run.go_on(results)
                moved = True
        if not moved:
            waiting: list[Future[list[Any]]] = []
            for run in open_runs:
                waiting.extend(future for future in run.futures if not future.done())
            if not waiting:
                names = ", ".join(run.scorer.name for run in open_runs)
                raise BalanceError(f"the scorers {names} wait for each other; only one of a recipe's may prune")
            wait(waiting, return_when=FIRST_COMPLETED)


def _waited_for(run: _ScorerRun, runs: Sequence[_ScorerRun]) -> list[_ScorerRun]:
    """The runs whose judgements a scorer waits for."""
    alone = run.step.scorer if isinstance(run.step, OthersStep) else None
    return [other for other in runs if other is not run and alone in (None, other.scorer.name)]


def _pruning_bounds(
    run: _ScorerRun,
    others: Sequence[_ScorerRun],
    scorers: Sequence[ActiveScorer],
    recipe: Recipe,
    earlier: JudgedBefore,
) -> PruningBounds | None:
    """What the other scorers say; None where every answer has to be judged in full."""
    waiting = [scorer for scorer in scorers if known_scorers()[scorer.name].waits_for_others and scorer.weight > 0]
    if not recipe.scoring.prune or waiting != [run.scorer] or not extremes_alone(recipe.pairing):
        return None
    weights = {other.scorer.name: other.scorer.weight for other in others if other.scorer.weight > 0}
    sums: dict[AnswerId, float | None] = {}
    for question in run.questions:
        for answer in (*question.answers, *question.without_text):
            sums[answer.id] = 0.0
    for other in others:
        if other.scorer.name in weights and other.judgements is not None:
            for judgement in other.judgements.values():
                _add(sums, judgement, weights)
    exact: dict[str, list[ScoreBounds]] = {}
    for answer, judgements in earlier:
        own = judgements[run.scorer.name]
        sums[answer.id] = 0.0
        for name in weights:
            _add(sums, judgements[name], weights)
        if own.score is not None and sums[answer.id] is not None:
            may_win = not unfounded_refusals([own])
            exact.setdefault(answer.example_id, []).append(
                ScoreBounds(answer, own.score, own.score, 0, may_win=may_win)
            )
    pairing = recipe.pairing
    if recipe.scoring.cascade is not None:  # answers that are not judged count as scored
        pairing = pairing.model_copy(update={"min_scored": 2})
    total = run.scorer.weight + sum(weights.values())
    return PruningBounds(sums, run.scorer.weight, total, pairing, exact)


def _add(sums: dict[AnswerId, float | None], judgement: Judgement, weights: Mapping[str, float]) -> None:
    """Add a score to the sum of its answer, times its weight; null for ever where it is null."""
    so_far = sums[judgement.answer_id]
    if so_far is not None:
        gain = None if judgement.score is None else weights[judgement.scorer] * judgement.score
        sums[judgement.answer_id] = None if gain is None else so_far + gain

"""Evaluate a model by suites: greedy answers, the consensus pick of N samples beside them, and what a judge says.

A prompt longer than the window loses the middle of its context (see truncation.py). Every question becomes an
`EvaluationRow`. An answer that the server refused for good, a question without a usable reference, or a judgement that
cannot be used has no score: it is missing, counted by reason, and never a number; a metric's mean is over the questions
that have it. An empty answer is an answer, and scores 0. A temporary fault of a server stops the evaluation, since the
figures would depend on chance; the replies that came are in the ledger. Comparing is in compare.py, suites are in
suites/.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.canonical import text_id
from infra.errors import EvaluationError
from infra.ledger import Ledger
from infra.models.client import Request
from infra.models.tokens import Tokenizer, load_tokenizer
from infra.recipe import Recipe
from infra.running import progress
from tasks.evaluation.compare import EvaluationRow, compare
from tasks.evaluation.preparing import Form, PreparedQuestion, calls_of_question, prepare
from tasks.evaluation.suites import NO_REFERENCE, ActiveSuite, Score, Scores, SuiteAnswer, SuiteQuestion
from tasks.evaluation.work import EvaluationWork, WorkInThread, span_size
from tasks.judging.similarity import ConsensusSettings, compared_text
from tasks.records.example import Answer, Context, Example
from tasks.refused_answers import is_refused
from tasks.sampling import answer_from
from tasks.scoring import AnsweredQuestion, ScoringContext, parse_scorers
from tasks.scoring.consensus import NAME as CONSENSUS
from tasks.scoring.run import run_to_end, score_with

__all__ = ["Baseline", "EvaluationRow", "SuiteQuestions", "baseline_of", "compare", "evaluate_model"]

STAGE = "evaluate"
_CHECKED_AT_ONCE = 64  # questions
MBR = "mbr_"  # before the names of metrics of the consensus pick

SuiteQuestions = Sequence[tuple[ActiveSuite, Sequence[SuiteQuestion]]]
Baseline = Mapping[tuple[str, str], str]  # the first model's greedy answers, by suite's label and example id


@dataclass(frozen=True, slots=True)
class _Span:
    """Questions of a suite that are worked on together, and what that takes."""

    questions: Sequence[SuiteQuestion]
    suite: ActiveSuite
    label: str
    tokenizer: Tokenizer
    scoring: ScoringContext
    baseline: Baseline | None
    work: EvaluationWork


@dataclass(frozen=True, slots=True)
class _AnsweredForm:
    """A form with its answers, and what the judge says of the greedy one."""

    form: Form
    greedy: Answer
    samples: tuple[Answer, ...]
    judged: Scores

    @property
    def refused(self) -> str | None:
        """Why there is no greedy answer; None where there is one."""
        return self.greedy.finish_reason if is_refused(self.greedy) else None


def evaluate_model(
    questions: SuiteQuestions,
    scoring: ScoringContext,
    baseline: Baseline | None = None,
    work: EvaluationWork | None = None,
) -> list[EvaluationRow]:
    """One row a question, suite by suite, in their order. The model is the policy of `scoring`.

    `baseline`: the first model's answers; None where this is the first. `work` makes the calls; without it they are
    made in this thread.

    Raises EvaluationError when there is no question or no answer at all, and ModelError at a temporary fault.
    """
    recipe = scoring.recipe
    if not any(of_suite for _, of_suite in questions):
        raise EvaluationError("there is no question to evaluate on; give evaluation.questions or a test split")
    tokenizer = load_tokenizer(recipe.policy.tokenizer, recipe.policy.trust_remote_code)
    work = work or WorkInThread(scoring)
    progress.expect(STAGE, sum(len(of_suite) for _, of_suite in questions))
    spans = []
    for suite, of_suite in questions:
        size = span_size(len(of_suite), calls_of_question(suite, of_suite, recipe), recipe)
        for start in range(0, len(of_suite), size):
            of_span = of_suite[start : start + size]
            label = f"{suite.label} · questions {start + 1}-{start + len(of_span)}"
            span = _Span(of_span, suite, label, tokenizer, scoring, baseline, work)
            spans.append(work.submit(_rows_of_span, span))
    rows: list[EvaluationRow] = []
    for future in spans:
        rows += future.result()
    if not any(row.answered for row in rows):
        raise EvaluationError(
            f"{recipe.policy.name} answered none of {len(rows)} questions; the first was refused as "
            f"{rows[0].finish_reason!r}"
        )
    return rows


def all_answered(questions: SuiteQuestions, recipe: Recipe, ledger: Ledger) -> bool:
    """Whether the ledger holds every answer of the recipe's policy, so that evaluating it needs no server."""
    tokenizer = load_tokenizer(recipe.policy.tokenizer, recipe.policy.trust_remote_code)
    for suite, of_suite in questions:
        for start in range(0, len(of_suite), _CHECKED_AT_ONCE):
            keys: set[str] = set()
            for question in of_suite[start : start + _CHECKED_AT_ONCE]:
                for form in prepare(question, suite, recipe, tokenizer).forms:
                    keys.update(request.key for request in form.requests)
            if ledger.holds(list(keys)) != keys:
                return False
    return True


def baseline_of(rows: Sequence[EvaluationRow]) -> Baseline:
    """The answers of the first model, for suites that compare answers; "" where there is none."""
    return {(row.suite, row.example_id): row.answer for row in rows}


def _rows_of_span(span: _Span) -> list[EvaluationRow]:
    """The rows of a span of questions."""
    recipe = span.scoring.recipe
    prepared = [prepare(question, span.suite, recipe, span.tokenizer) for question in span.questions]
    answers = _answers(prepared, span)
    _embed_samples(answers, span.scoring)
    judged = iter(_judged(prepared, answers, span))
    answers_of_forms = iter(answers)
    rows: list[EvaluationRow] = []
    for question in prepared:
        forms: list[_AnsweredForm] = []
        for form in question.forms:
            of_form = next(answers_of_forms)
            forms.append(_AnsweredForm(form, of_form[0], tuple(of_form[1:]), next(judged)))
        rows.append(_row(question.question, forms, span.suite, span.scoring))
    progress.advance(STAGE, len(rows))
    return rows


def _answers(questions: Sequence[PreparedQuestion], span: _Span) -> list[list[Answer]]:
    """The answers to all forms, the greedy one first."""
    forms = [form for question in questions for form in question.forms]
    requests: list[Request] = []
    for form in forms:
        requests += form.requests
    replies = iter(span.work.complete(requests, span.label))
    strategy = span.scoring.recipe.sampling.strategy
    answers_by_form: list[list[Answer]] = []
    for form in forms:
        answers = []
        for request in form.requests:
            answers.append(answer_from(form.example.example_id, request, next(replies), strategy))
        answers_by_form.append(answers)
    return answers_by_form


def _judged(questions: Sequence[PreparedQuestion], answers: Sequence[Sequence[Answer]], span: _Span) -> list[Scores]:
    """What the suite's judge says of the greedy answer to every form; an answer without text is not judged."""
    suite, baseline = span.suite, span.baseline
    judge = suite.suite.judge
    forms = [(question, form) for question in questions for form in question.forms]
    if judge is None or suite.judge_role is None:
        return [{}] * len(forms)
    judged: list[Scores] = []
    places: list[int] = []
    subjects: list[SuiteAnswer] = []
    for place, ((prepared, form), of_form) in enumerate(zip(forms, answers, strict=True)):
        greedy, task = of_form[0], prepared.question.task
        first = None if baseline is None else baseline.get((suite.label, prepared.question.example.example_id), "")
        subject = SuiteAnswer(form.example, form.context, greedy.text, task, first)
        if is_refused(greedy):
            judged.append(dict.fromkeys(judge.metrics, Score(None, greedy.finish_reason)))
        elif not greedy.text.strip():
            judged.append(judge.of_empty(subject))
        else:
            judged.append({})
            places.append(place)
            subjects.append(subject)
    if subjects:
        steps = judge.score(subjects, suite.settings, span.scoring)
        scores = run_to_end(steps, span.work.steps(span.label))
        for place, of_answer in zip(places, scores, strict=True):
            judged[place] = of_answer
    return judged


def _embed_samples(answers_by_question: Sequence[Sequence[Answer]], scoring: ScoringContext) -> None:
    """Embed the samples of a batch of questions at once: the pick then finds their vectors in the ledger."""
    settings = _pick_settings(scoring.recipe)
    if settings.similarity != "embedding":
        return
    texts = []
    for answers in answers_by_question:
        texts += [compared_text(answer, settings) for answer in answers[1:]]
    if texts:
        scoring.embedder().embed(texts)


def _row(
    question: SuiteQuestion, forms: Sequence[_AnsweredForm], suite: ActiveSuite, scoring: ScoringContext
) -> EvaluationRow:
    """The row of a question: the first form's answer, and the mean scores of all its forms."""
    scores_of_forms = [_scores(form, suite, scoring) for form in forms]
    scores: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    for name in scores_of_forms[0]:
        values: list[float] = []
        for of_form in scores_of_forms:
            value = of_form[name].value
            if value is not None:
                values.append(value)
        scores[name] = sum(values) / len(values) if values else None
        if not values:
            missing[name] = scores_of_forms[0][name].reason or NO_REFERENCE
    first, example = forms[0], question.example
    return EvaluationRow(
        example.example_id,
        question.task if suite.suite.generate else example.kind,  # a generated example's kind says how it is measured
        first.form.fitted.tokens_before,
        any(form.form.fitted.cut for form in forms),
        first.greedy.text,
        first.greedy.finish_reason,
        any(form.refused is None for form in forms),
        scores,
        missing,
        suite.label,
        question.task,
        {"language": example.language, **question.groups},
    )


def _scores(form: _AnsweredForm, suite: ActiveSuite, scoring: ScoringContext) -> dict[str, Score]:
    """The scores of a form by metric: of the greedy answer, by its judge, and of the consensus pick."""
    example, context = form.form.example, form.form.context
    scores = _measure(suite, example, context, form.greedy.text, form.refused, "")
    scores |= form.judged
    if form.samples:
        pick = _consensus_pick(AnsweredQuestion(example, context, form.samples), scoring)
        text, refused = (pick.text, None) if pick else ("", "no_answers")
        scores |= _measure(suite, example, context, text, refused, MBR)
    return scores


def _measure(
    suite: ActiveSuite, example: Example, context: Context, text: str, refused: str | None, prefix: str
) -> dict[str, Score]:
    """Scores by metric; `prefix` stands before every metric's name."""
    scores: dict[str, Score] = {}
    for name, metric in suite.suite.metrics.items():
        value = None if refused else metric(text, example, context)
        reason = None if value is not None else refused or suite.suite.reasons.get(name, NO_REFERENCE)
        scores[prefix + name] = Score(value, reason)
    return scores


def _consensus_pick(question: AnsweredQuestion, scoring: ScoringContext) -> Answer | None:
    """The sample nearest to all samples; of equals the one whose text's hash is first. None when none has text."""
    judgements = score_with(CONSENSUS, _pick_settings(scoring.recipe), [question], scoring)
    pick: Answer | None = None
    pick_order = (math.inf, "")
    for answer, judgement in zip(question.answers, judgements, strict=True):
        if judgement.score is None:
            continue
        order = (-judgement.score, text_id(answer.text))
        if order < pick_order:
            pick, pick_order = answer, order
    return pick


def _pick_settings(recipe: Recipe) -> ConsensusSettings:
    """How alike two samples are: as in the recipe's consensus scorer, if it has one."""
    for scorer in parse_scorers(recipe):
        if scorer.name == CONSENSUS:
            assert isinstance(scorer.settings, ConsensusSettings)
            return scorer.settings
    return ConsensusSettings()

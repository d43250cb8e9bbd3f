"""Evaluate a model on held-out questions: greedy answers, and the consensus pick of N samples beside them.

A prompt longer than the window loses the middle of its context (see truncation.py). Every question becomes an
`EvaluationRow`. An answer that the server refused for good, or a question without a usable reference, has no score: it
is missing, counted by reason, and never a number; a metric's mean is over the questions that have it. An empty answer
is an answer, and scores 0. A temporary fault of the server stops the evaluation, since the figures would depend on
chance; the replies that came are in the ledger. Comparing is in compare.py.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from infra.canonical import seed_number, text_id
from infra.errors import EvaluationError, ModelError
from infra.ledger import Ledger
from infra.models.client import Failure, ModelClient, Outcome, Prompt, Request
from infra.models.embedding.embedder import Embedder
from infra.models.forms.request_form import parameters_of, template_arguments
from infra.models.special_tokens import own_special_tokens
from infra.models.tokens import Tokenizer, load_tokenizer, prompt_tokens
from infra.recipe import Evaluation, Model, Recipe
from infra.running import progress
from tasks.evaluation.compare import EvaluationRow, compare
from tasks.evaluation.suites import NO_REFERENCE, Suite, find_suite
from tasks.evaluation.truncation import Fitted, fit_context, fit_messages
from tasks.judging.similarity import ConsensusSettings, compared_text
from tasks.records.example import Answer, Context, Example
from tasks.refused_answers import is_refused
from tasks.sampling import GREEDY, answer_from, sample_prompt
from tasks.scoring import AnsweredQuestion, ScoringContext, parse_scorers
from tasks.scoring.consensus import NAME as CONSENSUS
from tasks.scoring.run import score_with

__all__ = ["EvaluationRow", "HeldOutQuestion", "compare", "evaluate_model"]

STAGE = "evaluate"
MBR = "mbr_"  # before the names of metrics of the consensus pick

HeldOutQuestion = tuple[Example, Context]


@dataclass(frozen=True, slots=True)
class _PreparedQuestion:
    """A question with its context cut to the window, and its requests."""

    question: HeldOutQuestion
    fitted: Fitted
    requests: tuple[Request, ...]  # the greedy one first


def evaluate_model(
    questions: Sequence[HeldOutQuestion],
    client: ModelClient,
    model: Model,
    recipe: Recipe,
    embedder: Callable[[], Embedder],
) -> list[EvaluationRow]:
    """One row a question, in their order; `model` is the one to ask, reached through `client`.

    Raises EvaluationError when there is no question or no answer at all, and ModelError at a temporary fault.
    """
    settings = _settings(recipe)
    if not questions:
        raise EvaluationError("there is no question to evaluate on; give evaluation.questions or a test split")
    suite = find_suite(settings.suite)
    tokenizer = load_tokenizer(model.tokenizer, model.trust_remote_code)
    scoring = ScoringContext(embedder, client, recipe)
    progress.expect(STAGE, len(questions))
    rows: list[EvaluationRow] = []
    for batch in _batches(questions, _batch_size(recipe)):
        prepared = [_prepare(question, model, recipe, settings, tokenizer) for question in batch]
        rows += _rows(prepared, client, suite, scoring)
        progress.advance(STAGE, len(batch))
    if not any(row.answered for row in rows):
        raise EvaluationError(
            f"{model.name} answered none of {len(rows)} questions; the first was refused as {rows[0].finish_reason!r}"
        )
    return rows


def all_answered(questions: Sequence[HeldOutQuestion], model: Model, recipe: Recipe, ledger: Ledger) -> bool:
    """Whether the ledger holds every answer of a model, so that evaluating it needs no server."""
    settings = _settings(recipe)
    tokenizer = load_tokenizer(model.tokenizer, model.trust_remote_code)
    for batch in _batches(questions, _batch_size(recipe)):
        keys: set[str] = set()
        for question in batch:
            for request in _prepare(question, model, recipe, settings, tokenizer).requests:
                keys.add(request.key)
        if ledger.holds(list(keys)) != keys:
            return False
    return True


def _batch_size(recipe: Recipe) -> int:
    """Questions whose calls are made together."""
    return max(1, recipe.execution.batch_calls // (1 + _settings(recipe).samples))


def _prepare(
    question: HeldOutQuestion, model: Model, recipe: Recipe, settings: Evaluation, tokenizer: Tokenizer
) -> _PreparedQuestion:
    """Fit a question to the model's window and make its requests."""
    example, context = question
    strategy = recipe.sampling.strategy
    own, arguments = own_special_tokens(tokenizer), template_arguments(model)

    def prompt(part: Context | str) -> Prompt:
        return sample_prompt(example, part, strategy, model, own)

    def count(part: Context | str) -> int:
        return prompt_tokens(tokenizer, [prompt(part).messages], (), arguments)[0]

    limit = model.context_window - settings.max_tokens
    if context.span_roles is None:
        fitted = fit_context(context.text, limit, tokenizer, count)
    else:
        fitted = fit_messages(context, limit, count)
    fitted_prompt = prompt(fitted.context)
    indices = [GREEDY, *range(settings.samples)]
    requests = [_request(fitted_prompt, example, model, recipe, settings, index) for index in indices]
    return _PreparedQuestion(question, fitted, tuple(requests))


def _request(
    prompt: Prompt, example: Example, model: Model, recipe: Recipe, settings: Evaluation, index: int
) -> Request:
    greedy = index == GREEDY
    own = {
        "temperature": 0.0 if greedy else recipe.sampling.temperature,
        "top_p": 1.0 if greedy else recipe.sampling.top_p,
        "max_tokens": settings.max_tokens,
        "seed": 0 if greedy else seed_number(recipe.seed, "evaluate", example.example_id, index),
    }
    return Request(
        kind="evaluate" if greedy else "evaluate_sample",
        model=model.name,
        revision=model.revision,
        prompt=prompt,
        parameters=parameters_of(model, own),
        sample_index=index,
        affinity=example.context_id,
    )


def _rows(
    questions: Sequence[_PreparedQuestion], client: ModelClient, suite: Suite, scoring: ScoringContext
) -> list[EvaluationRow]:
    """The rows of a batch of questions."""
    requests: list[Request] = []
    for question in questions:
        requests += question.requests
    outcomes = client.complete(requests)
    _check_temporary_failures(outcomes)
    strategy = scoring.recipe.sampling.strategy
    answers_by_question: list[list[Answer]] = []
    replies = iter(outcomes)
    for question in questions:
        answers = []
        for request in question.requests:
            answers.append(answer_from(question.question[0].example_id, request, next(replies), strategy))
        answers_by_question.append(answers)
    _embed_samples(answers_by_question, scoring)
    rows: list[EvaluationRow] = []
    for question, answers in zip(questions, answers_by_question, strict=True):
        rows.append(_row(question, answers, suite, scoring))
    return rows


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
    prepared: _PreparedQuestion, answers: Sequence[Answer], suite: Suite, scoring: ScoringContext
) -> EvaluationRow:
    example, context = prepared.question
    greedy, samples = answers[0], tuple(answers[1:])
    answered = not is_refused(greedy)
    refused = None if answered else greedy.finish_reason
    scores, missing = _measure(suite, prepared.question, greedy.text, refused, "")
    if samples:
        pick = _consensus_pick(AnsweredQuestion(example, context, samples), scoring)
        text, refused = (pick.text, None) if pick else ("", "no_answers")
        pick_scores, pick_missing = _measure(suite, prepared.question, text, refused, MBR)
        scores, missing = scores | pick_scores, missing | pick_missing
    return EvaluationRow(
        example.example_id,
        example.kind,
        prepared.fitted.tokens_before,
        prepared.fitted.cut,
        greedy.text,
        greedy.finish_reason,
        answered,
        scores,
        missing,
    )


def _measure(
    suite: Suite, question: HeldOutQuestion, text: str, refused: str | None, prefix: str
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Scores by metric, and the reasons of those that are missing; `prefix` stands before every metric's name."""
    scores: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    for name, metric in suite.metrics.items():
        score = None if refused else metric(text, *question)
        scores[prefix + name] = score
        if score is None:
            missing[prefix + name] = refused or suite.reasons.get(name, NO_REFERENCE)
    return scores, missing


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


def _settings(recipe: Recipe) -> Evaluation:
    if recipe.evaluation is None:
        raise EvaluationError("the recipe has no `evaluation` section; add one, or leave evaluation out")
    return recipe.evaluation


def _batches(questions: Sequence[HeldOutQuestion], size: int) -> Iterator[Sequence[HeldOutQuestion]]:
    for start in range(0, len(questions), size):
        yield questions[start : start + size]


def _check_temporary_failures(outcomes: Sequence[Outcome]) -> None:
    failures: list[Failure] = []
    for outcome in outcomes:
        if isinstance(outcome, Failure) and not outcome.permanent:
            failures.append(outcome)
    if failures:
        raise ModelError(
            f"{len(failures)} of {len(outcomes)} calls failed after all attempts; the first: {failures[0].reason}: "
            f"{failures[0].detail}. The replies that arrived are in the ledger; evaluate again when the server is well."
        )

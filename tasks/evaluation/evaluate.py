"""Evaluate a model on held-out questions: greedy answers, and the consensus pick of N samples beside them.

A prompt longer than the window loses the middle of its context (see truncation.py). Every question becomes a
`Row`. An answer that the server refused for good, or a question without a usable reference, has no score: it is
missing, counted by reason, and never a number; a metric's mean is over the questions that have it. An empty
answer is an answer, and scores 0. A passing fault of the server stops the evaluation, since missing answers
would depend on the weather; what was answered is in the ledger. Comparing is in compare.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from infra.canonical import seed_number, text_id
from infra.errors import EvaluationError, ModelError
from infra.models.client import Failure, ModelClient, Outcome, Prompt, Request
from infra.models.embedding import Embedder
from infra.models.tokens import Tokenizer, load_tokenizer, prompt_tokens
from infra.recipe import Evaluation, Model, Recipe
from infra.running import progress
from tasks.evaluation.compare import EvaluationRow, compare
from tasks.evaluation.suites import NO_REFERENCE, Suite, find_suite
from tasks.evaluation.truncation import Fitted, fit_context
from tasks.records.example import Answer, Context, Example
from tasks.sampling import GREEDY, answer_from, sample_prompt
from tasks.scoring import AnsweredQuestion, ScoringContext, parse_scorers
from tasks.scoring.consensus import NAME as CONSENSUS
from tasks.scoring.consensus import ConsensusSettings
from tasks.scoring.run import score_with

__all__ = ["EvaluationRow", "HeldOut", "compare", "evaluate_model"]

STAGE = "evaluate"
MBR = "mbr_"  # before the names of metrics of the consensus pick

HeldOut = tuple[Example, Context]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question as it is sent."""

    case: HeldOut
    fitted: Fitted
    requests: tuple[Request, ...]  # the greedy one first


def evaluate_model(
    cases: Sequence[HeldOut], client: ModelClient, model: Model, recipe: Recipe, embedder: Callable[[], Embedder]
) -> list[EvaluationRow]:
    """One row a question, in their order; `model` is the one to ask, reached through `client`.

    Raises EvaluationError when there is no question or no answer at all, and ModelError at a passing fault.
    """
    settings = _settings(recipe)
    if not cases:
        raise EvaluationError("there is no question to evaluate on; give evaluation.questions or a test split")
    suite = find_suite(settings.suite)
    tokenizer = load_tokenizer(model.tokenizer, model.trust_remote_code)
    bench = ScoringContext(embedder, client, recipe)
    progress.expect(STAGE, len(cases))
    rows: list[EvaluationRow] = []
    for batch in _batches(cases, max(1, recipe.execution.batch_calls // (1 + settings.samples))):
        asked = [_ask(case, model, recipe, settings, tokenizer) for case in batch]
        rows += _answered(asked, client, suite, bench)
        progress.advance(STAGE, len(batch))
    if not any(row.answered for row in rows):
        raise EvaluationError(
            f"{model.name} answered none of {len(rows)} questions; the first was refused as {rows[0].finish_reason!r}"
        )
    return rows


def _ask(case: HeldOut, model: Model, recipe: Recipe, settings: Evaluation, tokenizer: Tokenizer) -> _Asked:
    """Fit a question to the model's window and make its requests."""
    example, context = case
    strategy = recipe.sampling.strategy

    def prompt(text: str) -> Prompt:
        return sample_prompt(example, text, strategy)

    def count(text: str) -> int:
        return prompt_tokens(tokenizer, [prompt(text).messages])[0]

    fitted = fit_context(context.text, model.context_window - settings.max_tokens, tokenizer, count)
    final = prompt(fitted.text)
    indices = [GREEDY, *range(settings.samples)]
    return _Asked(case, fitted, tuple(_request(final, example, model, recipe, settings, index) for index in indices))


def _request(
    prompt: Prompt, example: Example, model: Model, recipe: Recipe, settings: Evaluation, index: int
) -> Request:
    greedy = index == GREEDY
    return Request(
        kind="evaluate" if greedy else "evaluate_sample",
        model=model.name,
        revision=model.revision,
        prompt=prompt,
        parameters={
            "temperature": 0.0 if greedy else recipe.sampling.temperature,
            "top_p": 1.0 if greedy else recipe.sampling.top_p,
            "max_tokens": settings.max_tokens,
            "seed": 0 if greedy else seed_number(recipe.seed, "evaluate", example.example_id, index),
        },
        sample_index=index,
        affinity=example.context_id,
    )


def _answered(asked: Sequence[_Asked], client: ModelClient, suite: Suite, bench: ScoringContext) -> list[EvaluationRow]:
    """The rows of a batch of questions."""
    outcomes = client.complete([request for each in asked for request in each.requests])
    _refuse_passing_failures(outcomes)
    remaining = iter(outcomes)
    return [_row(each, [next(remaining) for _ in each.requests], suite, bench) for each in asked]


def _row(asked: _Asked, outcomes: Sequence[Outcome], suite: Suite, bench: ScoringContext) -> EvaluationRow:
    example, context = asked.case
    answers = [
        answer_from(example.example_id, request, outcome, bench.recipe.sampling.strategy)
        for request, outcome in zip(asked.requests, outcomes, strict=True)
    ]
    greedy, samples = answers[0], tuple(answers[1:])
    refused = outcomes[0].reason if isinstance(outcomes[0], Failure) else None
    scores, missing = _measure(suite, asked.case, greedy.text, refused, "")
    if samples:
        pick = _consensus_pick(AnsweredQuestion(example, context, samples), bench)
        text, refused = (pick.text, None) if pick else ("", "no_answers")
        of_pick, missing_of_pick = _measure(suite, asked.case, text, refused, MBR)
        scores, missing = scores | of_pick, missing | missing_of_pick
    return EvaluationRow(
        example.example_id,
        example.kind,
        asked.fitted.tokens_before,
        asked.fitted.cut,
        greedy.text,
        greedy.finish_reason,
        not isinstance(outcomes[0], Failure),
        scores,
        missing,
    )


def _measure(
    suite: Suite, case: HeldOut, text: str, refused: str | None, prefix: str
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Scores by metric, and the reasons of those that are missing."""
    scores = {name: None if refused else metric(text, *case) for name, metric in suite.metrics.items()}
    missing = {
        name: refused or suite.reasons.get(name, NO_REFERENCE) for name, score in scores.items() if score is None
    }
    return {prefix + name: score for name, score in scores.items()}, {
        prefix + name: reason for name, reason in missing.items()
    }


def _consensus_pick(case: AnsweredQuestion, bench: ScoringContext) -> Answer | None:
    """The sample nearest to all samples; of equals the one whose text's hash is first. None when none has text."""
    active = [scorer.settings for scorer in parse_scorers(bench.recipe) if scorer.name == CONSENSUS]
    settings = active[0] if active else ConsensusSettings()
    assert isinstance(settings, ConsensusSettings)
    judgements = score_with(CONSENSUS, settings, [case], bench)
    scored = [
        (-judgement.score, text_id(answer.text), answer)
        for answer, judgement in zip(case.answers, judgements, strict=True)
        if judgement.score is not None
    ]
    return min(scored, key=lambda each: each[:2])[2] if scored else None


def _settings(recipe: Recipe) -> Evaluation:
    if recipe.evaluation is None:
        raise EvaluationError("the recipe has no `evaluation` section; add one, or leave evaluation out")
    return recipe.evaluation


def _batches(cases: Sequence[HeldOut], size: int) -> Iterator[Sequence[HeldOut]]:
    for start in range(0, len(cases), size):
        yield cases[start : start + size]


def _refuse_passing_failures(outcomes: Sequence[Outcome]) -> None:
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure) and not outcome.permanent]
    if failures:
        raise ModelError(
            f"{len(failures)} of {len(outcomes)} calls failed after all attempts; the first: {failures[0].reason}: "
            f"{failures[0].detail}. The replies that arrived are in the ledger; evaluate again when the server is well."
        )

"""The questions of every suite of a recipe: generated, read from the entry's own source, or the held-out ones."""

from collections.abc import Sequence
from dataclasses import replace

from infra.errors import EvaluationError, RecipeError
from infra.models.tokens import load_tokenizer
from infra.recipe import Contexts, Evaluation, Recipe
from infra.store import Store
from tasks.evaluation.evaluate import SuiteQuestions
from tasks.evaluation.heldout import Dataset, HeldOutQuestion, heldout_questions
from tasks.evaluation.suites import ActiveSuite, SuiteQuestion, parse_suites


def read_suite_questions(recipe: Recipe, store: Store, dataset: Dataset) -> SuiteQuestions:
    """Every suite with its questions, in the order of the recipe; of `limit` rows where the entry says so.

    Raises EvaluationError for a suite without a question, and RecipeError where the model's window has no room for one.
    """
    questions = []
    for suite in parse_suites(recipe):
        of_suite = _questions_of(suite, recipe, store, dataset)
        if not of_suite:
            raise EvaluationError(_nothing_to_ask(suite, recipe))
        _check_window(suite, of_suite, recipe)
        questions.append((suite, of_suite))
    return questions


def _nothing_to_ask(suite: ActiveSuite, recipe: Recipe) -> str:
    """Why a suite has no question, and what helps."""
    source = suite.settings.questions
    if source is None and recipe.evaluation is not None:
        source = recipe.evaluation.questions
    if source is None:
        return (
            f"there is no held-out question for the suite {suite.label}: raise dataset.test_fraction, or give "
            "evaluation.questions; questions without a reference answer are left out where the suite needs one"
        )
    return (
        f"{source.source}: no question has a reference answer, and the suite {suite.label} compares answers with one; "
        "say where it stands, as {name: SUITE, questions: {source: FILE, fields: {answers: FIELD}}}, or take a suite "
        "whose judge needs none"
    )


def _check_window(suite: ActiveSuite, questions: Sequence[SuiteQuestion], recipe: Recipe) -> None:
    evaluation, window = recipe.evaluation or Evaluation(), recipe.policy.context_window
    longest = max(suite.answer_tokens(task, evaluation.max_tokens) for task in {one.task for one in questions})
    if longest >= window:
        raise RecipeError(
            f"the suite {suite.label}: answers of up to {longest:,} tokens leave no room for a prompt in the window of "
            f"{recipe.policy.name}, {window:,} tokens (policy.context_window, --window); give the suite a smaller "
            "max_tokens, or a model with a larger window"
        )


def _questions_of(suite: ActiveSuite, recipe: Recipe, store: Store, dataset: Dataset) -> list[SuiteQuestion]:
    if suite.suite.generate is not None:
        tokenizer = load_tokenizer(recipe.policy.tokenizer, recipe.policy.trust_remote_code)
        questions = list(suite.suite.generate(suite.settings, recipe, tokenizer))
    else:
        cases = heldout_questions(_with_source(suite, recipe), store, dataset, suite.suite.needs_references)
        questions = as_suite_questions(cases)
    return [_prepared(question, suite, recipe) for question in questions]


def _prepared(question: SuiteQuestion, suite: ActiveSuite, recipe: Recipe) -> SuiteQuestion:
    """A question as the suite asks it, with the tokenizer that has counted its context where the suite left that."""
    prepared = suite.suite.prepare(question, suite.settings, recipe.seed)
    unchanged = prepared.context is question.context
    return replace(prepared, counted_by=recipe.policy.tokenizer if unchanged else "", fits={})


def is_of_split(suite: ActiveSuite, recipe: Recipe) -> bool:
    """Whether a suite asks the test split of a dataset: neither it nor the recipe has questions for it."""
    if suite.settings.questions is not None or suite.suite.generate is not None:
        return False
    return recipe.evaluation is None or recipe.evaluation.questions is None


def as_suite_questions(cases: Sequence[HeldOutQuestion]) -> list[SuiteQuestion]:
    """Held-out questions as they are."""
    return [SuiteQuestion(example, context) for example, context in cases]


def _with_source(suite: ActiveSuite, recipe: Recipe) -> Recipe:
    """The recipe with the entry's questions and contexts as those of its evaluation."""
    source = suite.settings.questions
    evaluation = recipe.evaluation or Evaluation()
    changes = {}
    if source is not None:
        if not source.model_fields_set & {"format", "fields"}:
            source = source.model_copy(update={"format": suite.suite.format})
        changes = {"questions": source, "contexts": suite.settings.contexts or Contexts()}
    elif suite.settings.contexts is not None:
        changes = {"contexts": suite.settings.contexts}
    return recipe.model_copy(update={"evaluation": evaluation.model_copy(update=changes)})

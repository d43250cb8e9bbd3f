"""A question of a suite as it is asked: its forms, cut to the model's window, and their requests.

Counting the tokens of a long prompt is most of this work, and a question is prepared for every model that is compared,
and once more to see whether the ledger has its answers. So what a form was cut to stays with the question, by all that
it depends on; and where the question says how many tokens its context has, these are not counted again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.canonical import fingerprint, seed_number
from infra.errors import EvaluationError
from infra.models.client import Prompt, Request
from infra.models.forms.request_form import parameters_of, template_arguments
from infra.models.special_tokens import own_special_tokens
from infra.models.tokens import Tokenizer, prompt_tokens, renders_tool_calls
from infra.recipe import Evaluation, Model, Recipe
from tasks.evaluation.suites import ActiveSuite, SuiteQuestion
from tasks.evaluation.truncation import Fitted, fit_context, fit_messages
from tasks.prompts import PromptText, load_prompt
from tasks.questions.chat import flat_context
from tasks.records.example import GREEDY, Context, Example
from tasks.sample_prompt import prompt_from, sample_prompt_text

ANSWER_KINDS = ("evaluate", "evaluate_sample")  # of calls for answers: greedy, and drawn


@dataclass(frozen=True, slots=True)
class Form:
    """A form of a question with its context cut to the window, and its requests."""

    example: Example
    context: Context
    fitted: Fitted
    requests: tuple[Request, ...]  # the greedy one first


@dataclass(frozen=True, slots=True)
class PreparedQuestion:
    """A question and its forms."""

    question: SuiteQuestion
    forms: tuple[Form, ...]


def calls_of_question(suite: ActiveSuite, questions: Sequence[SuiteQuestion], recipe: Recipe) -> int:
    """Calls to the model for one question."""
    forms = len(questions[0].all_forms) if questions else 1
    return forms * (1 + suite.samples(_settings(recipe).samples))


def prepare(question: SuiteQuestion, suite: ActiveSuite, recipe: Recipe, tokenizer: Tokenizer) -> PreparedQuestion:
    """The question as the recipe's policy is asked it."""
    forms = []
    for example, context in question.all_forms:
        forms.append(_form(example, context, question, suite, recipe, tokenizer))
    return PreparedQuestion(question, tuple(forms))


def _form(
    example: Example,
    context: Context,
    question: SuiteQuestion,
    suite: ActiveSuite,
    recipe: Recipe,
    tokenizer: Tokenizer,
) -> Form:
    """Fit a form of a question to the model's window and make its requests."""
    model, settings = recipe.policy, _settings(recipe)
    max_tokens = suite.answer_tokens(question.task, settings.max_tokens)
    name = suite.suite.prompt(example, suite.settings)
    language = example.language
    template = load_prompt(name, language) if name else sample_prompt_text(recipe.sampling.strategy, language)
    limit = model.context_window - max_tokens
    identity = fingerprint(
        [
            [model.tokenizer, model.system, template_arguments(model), limit],
            [template.fingerprint, language, example.question, context.context_id],
        ]
    )
    fitted = question.fits.get(identity)
    if fitted is None:
        fitted = question.fits[identity] = _fitted(example, context, question, template, limit, model, tokenizer)
    prompt = prompt_from(template, example, fitted.context, model, own_special_tokens(tokenizer))
    indices = [GREEDY, *range(suite.samples(settings.samples))]
    affinity = question.shared or example.context_id
    requests = [_request(prompt, example, affinity, model, recipe, max_tokens, index) for index in indices]
    return Form(example, context, fitted, tuple(requests))


def _fitted(
    example: Example,
    context: Context,
    question: SuiteQuestion,
    template: PromptText,
    limit: int,
    model: Model,
    tokenizer: Tokenizer,
) -> Fitted:
    """The context, cut where the prompt would be longer than `limit` tokens."""
    own, arguments, language = own_special_tokens(tokenizer), template_arguments(model), example.language
    counted = question.counted_by == model.tokenizer and context.context_id == question.context.context_id

    def count(part: Context | str) -> int:
        prompt = prompt_from(template, example, part, model, own)
        text_tokens = [(context.text, context.tokens)] if counted and part is context.text else ()
        return prompt_tokens(tokenizer, [prompt.messages], text_tokens, arguments, [prompt.tools])[0]

    if context.span_roles is None:
        return fit_context(context.text, limit, tokenizer, count)
    has_place = context.tool_use is None or renders_tool_calls(tokenizer, arguments)
    return fit_messages(context if has_place else flat_context(context, language), limit, language, count)


def _request(
    prompt: Prompt, example: Example, affinity: str, model: Model, recipe: Recipe, max_tokens: int, index: int
) -> Request:
    greedy = index == GREEDY
    own = {
        "temperature": 0.0 if greedy else recipe.sampling.temperature,
        "top_p": 1.0 if greedy else recipe.sampling.top_p,
        "max_tokens": max_tokens,
        "seed": 0 if greedy else seed_number(recipe.seed, "evaluate", example.example_id, index),
    }
    return Request(
        kind=ANSWER_KINDS[0 if greedy else 1],
        model=model.name,
        revision=model.revision,
        prompt=prompt,
        parameters=parameters_of(model, own),
        sample_index=index,
        affinity=affinity,
    )


def _settings(recipe: Recipe) -> Evaluation:
    if recipe.evaluation is None:
        raise EvaluationError("the recipe has no `evaluation` section; add one, or leave evaluation out")
    return recipe.evaluation

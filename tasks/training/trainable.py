"""Whether training would refuse the base model's tokenizer, and what it makes of its template, before a paid call.

One made-up question goes through the gate before training (gate.py), with the recipe's own prompt; with reasoning,
where training wants it.
"""

from jinja2 import TemplateError

from infra.errors import PrerequisiteError, RecipeError, TrainingError
from infra.models.forms.request_form import template_arguments
from infra.models.tokens import Tokenizer, has_chat_template, load_tokenizer, render_prompt, renders_tool_calls
from infra.recipe import Recipe
from infra.recipe.public import public_text
from tasks.sample_prompt import sample_prompt_text
from tasks.training.answer_form import REASONING_FIELD, find_answer_form
from tasks.training.gate import gate
from tasks.training.trackers import check_trackers

_ANY_LENGTH = 2**31
_REMEDY = "; train another base model (training.base), or set training to null to build the dataset alone"


def training_base(recipe: Recipe) -> str:
    """The model that the recipe trains: a folder, a hub name or a model in the box."""
    if recipe.training is not None and recipe.training.base:
        return recipe.training.base
    return policy_folder(recipe)


def policy_folder(recipe: Recipe) -> str:
    """The recipe's policy: the folder that is served, or its name."""
    return recipe.policy.serve.model_path if recipe.policy.serve else recipe.policy.name


def check_trainable(recipe: Recipe, *, here: bool) -> list[str]:
    """Sentences on what training does that the policy's generation prompt does not say.

    Raises RecipeError when training would refuse the tokenizer or its chat template, PrerequisiteError for a tracker
    that is not here. `here`: this run trains on this machine, so a base model that is not here is an error too; else
    training may take place where it is, and nothing can be said.
    """
    base = training_base(recipe)
    if here and recipe.training is not None:
        check_trackers(recipe.training)
    try:
        tokenizer = load_tokenizer(base, recipe.policy.trust_remote_code)
    except (RecipeError, PrerequisiteError) as error:
        if here:
            raise type(error)(f"training needs the tokenizer of its base model {base!r}: {error}{_REMEDY}") from error
        return []
    text = sample_prompt_text(recipe.sampling.strategy, recipe.questions.language)
    prompt = [{"role": "user", "content": text.render(context="It is Paris.", question="What is the capital?")}]
    trains_reasoning = recipe.training is not None and recipe.training.reasoning == "keep"
    reasoning = {REASONING_FIELD: "The text names Paris."} if trains_reasoning else {}
    row = {
        "example_id": "made-up",
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": "It is Paris.", **reasoning}],
        "rejected": [{"role": "assistant", "content": "I do not know.", **reasoning}],
    }
    arguments = template_arguments(recipe.policy)
    try:
        gate([row], tokenizer, _ANY_LENGTH, arguments=arguments)
    except (TrainingError, TemplateError) as error:
        raise RecipeError(f"training would refuse the tokenizer of {base!r}: {error}{_REMEDY}") from error
    notes = find_answer_form(tokenizer, arguments).notes(trains_reasoning)
    notes += _template_notes(recipe, base, prompt, tokenizer)
    return [f"training on {public_text(base)}: {note}" for note in notes]


def _template_notes(recipe: Recipe, base: str, prompt: list[dict[str, str]], tokenizer: Tokenizer) -> list[str]:
    """Notes where the policy was asked with another generation prompt than the base model is trained with, or with tool
    calls that its template has no place for."""
    policy = recipe.policy
    if policy.tokenizer == base:
        return []
    arguments = template_arguments(policy)
    try:
        of_policy = load_tokenizer(policy.tokenizer, policy.trust_remote_code)
        if not has_chat_template(of_policy):
            return []
        asked_with = render_prompt(prompt, of_policy, arguments)
    except (RecipeError, PrerequisiteError, TemplateError):
        return []
    notes = []
    may_call = recipe.contexts.build == "history" and recipe.contexts.tools == "auto"
    if may_call and renders_tool_calls(of_policy, arguments) and not renders_tool_calls(tokenizer, arguments):
        notes.append(
            "its chat template has no place for tool calls, which that of policy.tokenizer has: training will refuse "
            "histories with tool calls; contexts.tools: text makes them text"
        )
    if asked_with == render_prompt(prompt, tokenizer, arguments):
        return notes
    return [
        *notes,
        f"its chat template writes the prompt in another way than that of policy.tokenizer ({policy.tokenizer}), with "
        "which the answers are drawn",
    ]

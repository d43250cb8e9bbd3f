"""Whether training would refuse the base model's tokenizer, found before a call is paid for.

One made-up question goes through the gate before training (gate.py), with the recipe's own prompt.
"""

from jinja2 import TemplateError

from infra.errors import PrerequisiteError, RecipeError, TrainingError
from infra.models.tokens import load_tokenizer
from infra.recipe import Recipe
from tasks.sampling import sample_prompt_text
from tasks.training.gate import gate

_ANY_LENGTH = 2**31
_REMEDY = "; train another base model (training.base), or set training to null to build the dataset alone"


def training_base(recipe: Recipe) -> str:
    """The model that the recipe trains: a folder, a hub name or a model in the box."""
    if recipe.training is not None and recipe.training.base:
        return recipe.training.base
    return recipe.policy.serve.model_path if recipe.policy.serve else recipe.policy.name


def check_trainable(recipe: Recipe, *, here: bool) -> None:
    """Raise RecipeError when training would refuse the tokenizer or its chat template.

    `here`: this run trains on this machine, so a base model that is not here is an error too; else training may take
    place where it is, and nothing can be said.
    """
    base = training_base(recipe)
    try:
        tokenizer = load_tokenizer(base, recipe.policy.trust_remote_code)
    except (RecipeError, PrerequisiteError) as error:
        if here:
            raise type(error)(f"training needs the tokenizer of its base model {base!r}: {error}{_REMEDY}") from error
        return
    text = sample_prompt_text(recipe.sampling.strategy, recipe.questions.language)
    prompt = [{"role": "user", "content": text.render(context="It is Paris.", question="What is the capital?")}]
    row = {
        "example_id": "made-up",
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": "It is Paris."}],
        "rejected": [{"role": "assistant", "content": "I do not know."}],
    }
    try:
        gate([row], tokenizer, _ANY_LENGTH)
    except (TrainingError, TemplateError) as error:
        raise RecipeError(f"training would refuse the tokenizer of {base!r}: {error}{_REMEDY}") from error

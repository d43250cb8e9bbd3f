"""Early words: what would stop a run after money was spent, looked for before its first call."""

import os

from infra.errors import RecipeError
from infra.models.api_key import check_api_keys
from infra.models.forms.request_form import headers_of
from infra.models.served_window import served_window
from infra.recipe import Recipe
from infra.running import progress
from infra.store import Store
from tasks.records.plan import Plan


def check_early(recipe: Recipe, *, trains: bool = False) -> list[str]:
    """Check API keys, and what training needs of its base model. Raises RecipeError or PrerequisiteError.

    Returns notes on what training makes of the base model's chat template.

    `trains`: the run trains, here. Else training is looked at when the recipe's own file has a section for it.
    """
    check_api_keys(recipe)
    if recipe.training is not None and (trains or "training" in recipe.model_fields_set):
        from tasks.training.trainable import check_trainable

        return check_trainable(recipe, here=trains)
    return []


def say_early(recipe: Recipe, *, trains: bool = False) -> None:
    """`check_early`, its notes said to the user."""
    for note in check_early(recipe, trains=trains):
        progress.say(note)


def check_windows(recipe: Recipe, plan: Plan, store: Store) -> None:
    """Raise RecipeError when a server that answers questions takes less than the plan's longest context and answer."""
    models = [("policy", recipe.policy)]
    if recipe.strong is not None:
        models.append(("strong", recipe.strong))
    longest = 0
    for section, model in models:
        for url in model.endpoints:
            window = served_window(url, model.name, os.environ.get(model.api_key_env), headers_of(model, section))
            if window is None or window >= model.context_window:
                continue
            longest = longest or longest_context(store, plan)
            if longest + recipe.sampling.max_tokens > window:
                raise RecipeError(
                    f"{url} serves {model.name} with max_model_len = {window}, and {section}.context_window is "
                    f"{model.context_window}: the plan's longest context has {longest} tokens, which do not fit with "
                    f"sampling.max_tokens = {recipe.sampling.max_tokens}. Start the server with --max-model-len "
                    f"{model.context_window}, or set policy.context_window to {window}: longer questions are drops of "
                    "the plan then"
                )


def longest_context(store: Store, plan: Plan) -> int:
    """Tokens of the plan's longest context, by the policy's tokenizer."""
    longest = 0
    for shard in plan.shards:
        tokens = store.read_table(shard.contexts, ["tokens"]).column("tokens").to_pylist()
        longest = max(longest, *tokens)
    return longest

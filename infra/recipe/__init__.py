"""A recipe: every setting of a run, typed, documented and checked before any work starts."""

from infra.recipe.asking import Asking, Checks
from infra.recipe.documents import Documents
from infra.recipe.models import (
    RULE_BASED,
    BatchSettings,
    Embedding,
    Fraction,
    Judge,
    Model,
    Positive,
    Price,
    RecipeSection,
    Serving,
)
from infra.recipe.recipe import (
    Budget,
    Contexts,
    Dataset,
    Evaluation,
    Execution,
    Language,
    Pairing,
    Questions,
    Recipe,
    Sampling,
    Scoring,
    load_recipe,
    parse_recipe,
)
from infra.recipe.training import Mix, Training

__all__ = [
    "RULE_BASED",
    "Asking",
    "BatchSettings",
    "Budget",
    "Checks",
    "Contexts",
    "Dataset",
    "Documents",
    "Embedding",
    "Evaluation",
    "Execution",
    "Fraction",
    "Judge",
    "Language",
    "Mix",
    "Model",
    "Pairing",
    "Positive",
    "Price",
    "Questions",
    "Recipe",
    "RecipeSection",
    "Sampling",
    "Scoring",
    "Serving",
    "Training",
    "load_recipe",
    "parse_recipe",
]

"""The demo's questions: a generated world, written where the demo recipe looks for it."""

from pathlib import Path

from infra.microworld.make import write_pool
from infra.recipe import Recipe

TRAIN_SEED, HELD_OUT_SEED = 11, 12  # different worlds: no fact of one holds in the other
PEOPLE = 60


def write_questions(recipe: Recipe) -> None:
    """Write the training and the held-out questions that the recipe names; the same bytes every time."""
    for questions, seed in (
        (recipe.questions, TRAIN_SEED),
        (recipe.evaluation and recipe.evaluation.questions, HELD_OUT_SEED),
    ):
        if questions and questions.limit:
            write_pool(Path(questions.source).parent, questions.limit, seed, PEOPLE)

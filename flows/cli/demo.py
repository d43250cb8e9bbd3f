"""The demo's questions: a generated world, written where the demo recipe looks for it."""

from pathlib import Path

from infra.recipe import Questions, Recipe
from tasks.microworld.make import write_pool
from tasks.microworld.words import Split

TRAIN_SEED, HELD_OUT_SEED = 11, 12  # different worlds, without a name in common
PEOPLE = 40  # as in the model's own lessons: every split has enough words to name each with one
HOPS = 3  # the longest chain


def write_questions(recipe: Recipe) -> None:
    """Write the training and the held-out questions that the recipe names; the same bytes every time."""
    held_out = recipe.evaluation.questions if recipe.evaluation else None
    sets: tuple[tuple[Questions | None, int, Split], ...] = (
        (recipe.questions, TRAIN_SEED, "train"),
        (held_out, HELD_OUT_SEED, "test"),
    )
    for questions, seed, split in sets:
        if questions and questions.limit:
            write_pool(Path(questions.source).parent, questions.limit, seed, PEOPLE, HOPS, split)

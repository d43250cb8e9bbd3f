"""The demo's questions: they are about a generated world, and written where the demo's recipe reads them."""

from pathlib import Path

from infra.recipe import Questions, Recipe
from tasks.microworld.make import write_pool
from tasks.microworld.words import Split

TRAIN_SEED, HELD_OUT_SEED = 11, 12  # different worlds, without a name in common
PEOPLE = 40  # in a world, as in the worlds that the model was trained on; every split has a name for each person
HOPS = 3  # of the longest chain of facts


def write_demo_questions(recipe: Recipe) -> None:
    """Write the training and the held-out questions that the recipe names; the same bytes every time."""
    held_out = recipe.evaluation.questions if recipe.evaluation else None
    sets: tuple[tuple[Questions | None, int, Split], ...] = (
        (recipe.questions, TRAIN_SEED, "train"),
        (held_out, HELD_OUT_SEED, "test"),
    )
    for questions, seed, split in sets:
        if questions and questions.limit:
            write_pool(Path(questions.source).parent, questions.limit, seed, PEOPLE, HOPS, split)

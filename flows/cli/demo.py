"""What the demo's recipe reads: questions on a generated world or the library's articles, or a world's documents."""

from pathlib import Path

from flows.recipes import BOX
from infra.errors import UsageError
from infra.recipe import Questions, Recipe
from tasks.library import write_library
from tasks.microworld.make import write_pool
from tasks.microworld.words import Split
from tasks.microworld.world import make_world, write_documents

TRAIN_SEED, HELD_OUT_SEED = 11, 12  # different worlds, without a name in common
PEOPLE = 40  # in a world, as in the worlds that the model was trained on; every split has a name for each person
HOPS = 3  # of the longest chain of facts


RECIPES = {
    "generated": "demo-",
    "real": "real-",
    "documents": "documents-",
}  # the recipes in the box for a kind of text begin with it


def demo_recipe(method: str, text: str) -> str:
    """The name of the demo's recipe. Raises RecipeError for a text or a method that there is none for."""
    if text not in RECIPES:
        raise UsageError(f"demo: there is no text {text!r}; there are: {', '.join(RECIPES)}")
    prefix = RECIPES[text]
    methods = [name.removeprefix(prefix) for name in BOX if name.startswith(prefix)]
    if method not in methods:
        raise UsageError(f"demo: there is no method {method!r} on {text} text; there are: {', '.join(methods)}")
    return prefix + method


def write_demo_questions(recipe: Recipe, text: str = "generated") -> None:
    """Write the questions, training and held-out, or the documents that the recipe names; the same bytes every time."""
    if recipe.documents is not None:
        write_world_documents(Path(recipe.documents.source))
        return
    held_out = recipe.evaluation.questions if recipe.evaluation else None
    sets: tuple[tuple[Questions | None, int, Split], ...] = (
        (recipe.questions, TRAIN_SEED, "train"),
        (held_out, HELD_OUT_SEED, "test"),
    )
    for questions, seed, split in sets:
        if questions and questions.limit and text == "real":
            write_library(Path(questions.source).parent, split)
        elif questions and questions.limit:
            write_pool(Path(questions.source).parent, questions.limit, seed, PEOPLE, HOPS, split)


def write_world_documents(folder: Path) -> None:
    """Write the documents of a generated world as text files, each named by its title."""
    folder.mkdir(parents=True, exist_ok=True)
    for document in write_documents(make_world(TRAIN_SEED, PEOPLE, "train")):
        (folder / f"{document.title}.txt").write_text(document.text, encoding="utf-8")

"""The recipes in the box, and reading a recipe by its path or by its name in the box."""

from collections.abc import Sequence
from pathlib import Path

from infra.recipe import Recipe, load_recipe

RECIPES = Path(__file__).parent


def read_recipe(name: str, changes: Sequence[str] | None = None) -> Recipe:
    """A recipe from a path, or by its name from the box, with changes like "sampling.samples=8"."""
    boxed = RECIPES / f"{name}.yaml"
    return load_recipe(boxed if boxed.exists() and not Path(name).exists() else name, tuple(changes or ()))

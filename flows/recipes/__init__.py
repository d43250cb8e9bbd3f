"""The recipes in the box, and reading a recipe by its path or by its name in the box."""

from collections.abc import Sequence
from pathlib import Path

from infra.errors import RecipeError
from infra.recipe import Recipe, load_recipe

BOX = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def read_recipe(name: str, changes: Sequence[str] | None = None) -> Recipe:
    """The recipe at a path or an fsspec URL, or of a name in the box, with changes like "sampling.samples=8".

    Raises RecipeError when there is none.
    """
    if "://" in name:
        return load_recipe(name, tuple(changes or ()))
    path = Path(name)
    if not path.is_file() and name in BOX:
        path = BOX[name]
    elif not path.exists() and path.name == name and not path.suffix:
        raise RecipeError(f"{name}: there is no such file, and no recipe of this name in the box: {', '.join(BOX)}")
    return load_recipe(path, tuple(changes or ()))

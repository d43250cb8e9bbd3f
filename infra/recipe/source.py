"""The text of a recipe: from a file, or from any fsspec URL (s3://bucket/recipe.yaml), with the store's credentials."""

from pathlib import Path

from infra.errors import RecipeError
from infra.urls import without_user


def recipe_text(path: str) -> str:
    """The whole text at a path or URL. Raises RecipeError naming it, the cause and the remedy."""
    if "://" not in path:
        try:
            return Path(path).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise RecipeError(f"{path}: cannot read the recipe ({error.strerror}); check the path") from error
    place = without_user(path)
    if place != path:
        raise RecipeError(f"{place}: a URL with a user or password is refused; set the credentials in the environment")
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            data: bytes = file.read()
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: there is no such recipe; check the name, and the bucket") from error
    except Exception as error:  # each file system has errors of its own
        cause = without_user(str(error)) or type(error).__name__
        raise RecipeError(
            f"{path}: cannot read the recipe ({cause}); check the URL, AWS_ENDPOINT_URL and the credentials"
        ) from error
    return data.decode("utf-8-sig")

"""The API key of an endpoint, from the environment, checked before the first call.

A key that was pasted with a line break, quotes or a space cannot be sent in a header, or is refused as a wrong one.
Messages name the variable and never show the key.
"""

import os

from infra.errors import PrerequisiteError
from infra.recipe import Recipe

_QUOTES = "\"'`“”‘’«»„"


def read_api_key(variable: str) -> str | None:
    """The key in an environment variable, None where it is not set. Raises PrerequisiteError for what is no key."""
    key = os.environ.get(variable)
    if not key:
        return None
    remedy = f"set it again without: export {variable}=..."
    if key != key.strip():
        what = "a line break" if key.strip("\r\n") != key else "a space"
        raise PrerequisiteError(f"the key in {variable} begins or ends with {what}; {remedy}")
    if key[0] in _QUOTES or key[-1] in _QUOTES:
        raise PrerequisiteError(f"the key in {variable} stands in quotation marks that are part of it; {remedy}")
    for place, letter in enumerate(key, 1):
        if not "!" <= letter <= "~":
            raise PrerequisiteError(
                f"the key in {variable} has a character that no key has (U+{ord(letter):04X}, at place {place} of "
                f"{len(key)}); copy it again"
            )
    return key


def check_api_keys(recipe: Recipe) -> None:
    """Check the keys of all models that a recipe reaches at endpoints. Raises PrerequisiteError."""
    variables = [model.api_key_env for model in recipe.models().values() if model.endpoints]
    if recipe.embedding.endpoint is not None:
        variables.append(recipe.embedding.api_key_env)
    for scorer in recipe.scoring.scorers:
        if scorer.get("endpoint"):
            variables.append(str(scorer.get("api_key_env") or "OPENAI_API_KEY"))
    for variable in variables:
        read_api_key(variable)

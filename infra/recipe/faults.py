"""What pydantic finds wrong in settings, by key: shared by all that have settings of their own in a recipe."""

from collections.abc import Iterator

from pydantic import ValidationError


def faults_by_key(error: ValidationError, unknown_key: str = "no such key") -> Iterator[tuple[str, str]]:
    """Each wrong key, as "a.b.0", and what is wrong with it; "" for the settings as a whole."""
    for fault in error.errors(include_url=False, include_input=False):
        key = ".".join(map(str, fault["loc"]))
        yield key, unknown_key if fault["type"] == "extra_forbidden" else fault["msg"]


def option_faults(error: ValidationError, path: str, name: str) -> str:
    """What is wrong with the options of a plug-in, which stand at `path` of the recipe, as one sentence."""
    faults = []
    for key, problem in faults_by_key(error, f"{name} has no such option"):
        faults.append(f"{path}.{key}: {problem}")
    return "; ".join(faults)

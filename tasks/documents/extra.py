"""The optional libraries that read documents: `pip install "longmill[documents]"`; `make setup` installs them."""

import importlib
from types import ModuleType

from infra.errors import PrerequisiteError


def load_library(name: str, purpose: str) -> ModuleType:
    """Import a library of the extra. Raises PrerequisiteError, with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PrerequisiteError(
            f"{purpose} needs the library {name}, which cannot be loaded ({error}): "
            'pip install "longmill[documents]", or `make setup` in a checkout'
        ) from error

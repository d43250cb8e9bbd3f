"""Every key of a recipe with its default and its meaning, read from the classes of the settings."""

from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from infra.errors import UsageError
from infra.recipe import Recipe


def sections() -> list[str]:
    """The names of the sections and of the keys beside them, in the recipe's order. Quick: no scorer is loaded."""
    return list(Recipe.model_fields)


def keys_of(section: str) -> Iterator[tuple[str, str, str]]:
    """As `recipe_keys`, of a section or of the part of one that a longer path names: `policy.serve`.

    Raises UsageError with the sections where there are none.
    """
    is_there = False
    for key, default, meaning in recipe_keys():
        if not section or key == section or key.startswith((f"{section}.", f"{section}[")):
            is_there = True
            yield key, default, meaning
    if not is_there:
        raise UsageError(f"keys: there is no section {section!r}; there are: {', '.join(sections())}")


def recipe_keys() -> Iterator[tuple[str, str, str]]:
    """(key path, default, meaning) of every key: first the sections, then the settings of scorers and of suites."""
    yield from _keys(Recipe, "")
    from tasks.evaluation.suites import SuiteSettings, all_suites
    from tasks.scoring import known_scorers

    for name, scorer in known_scorers().items():
        for key, default, meaning in _keys(scorer.settings, ""):
            yield f"scoring.scorers[{name}].{key}", default, meaning
    for key, field in SuiteSettings.model_fields.items():
        yield f"evaluation.suites[any].{key}", _default(field), field.description or ""
    for name, suite in all_suites().items():
        for key, field in suite.settings.model_fields.items():
            if key not in SuiteSettings.model_fields:
                yield f"evaluation.suites[{name}].{key}", _default(field), field.description or ""


def _keys(settings: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in settings.model_fields.items():
        section = _section(field)
        path = f"{prefix}{name}"
        if section is None:
            yield path, _default(field), field.description or ""
        else:
            yield path, "", field.description or ""
            yield from _keys(section, f"{path}.")


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The class of a section, also of an optional one; None for a plain value."""
    for alternative in (field.annotation, *get_args(field.annotation)):
        if isinstance(alternative, type) and issubclass(alternative, BaseModel):
            return alternative
    return None


def _default(field: FieldInfo) -> str:
    return "required" if field.default is PydanticUndefined else f"default {field.default!r}"

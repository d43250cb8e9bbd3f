"""How all HTML pages are rendered from their templates: every value escaped, a missing one an error."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def html_environment(*packages: str) -> "Environment":
    """The templates of these packages (`templates/`), and those of reports; `number` writes 1,234."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loaders = [PackageLoader(package) for package in packages]
    environment = Environment(
        loader=ChoiceLoader([*loaders, PackageLoader("tasks", "reporting")]),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    return environment

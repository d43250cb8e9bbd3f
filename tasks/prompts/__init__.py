"""Prompt texts: plain files `tasks/prompts/LANGUAGE/NAME.txt`; no prompt text stands in code.

A placeholder is `{name}`. All placeholders are filled in one pass over the file's text, so `{question}` in a document
or an answer is data and stays as it is. The fingerprint of the file's text is part of a plan, so a changed word makes
a new plan.
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from infra.canonical import text_id
from infra.errors import RecipeError

_FOLDER = Path(__file__).parent
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class PromptText:
    """The text of one prompt file, and its sha256 as `fingerprint`."""

    name: str
    language: str
    text: str
    fingerprint: str

    def render(self, **values: str) -> str:
        """Fill every placeholder in one pass. Raises KeyError for a placeholder without a value."""
        return _PLACEHOLDER.sub(lambda match: values[match.group(1)], self.text)

    def after(self, place: str) -> "PromptText":
        """What stands after a placeholder, as "{context}"; all of it where there is none."""
        before, placeholder, rest = self.text.partition(place)
        return replace(self, text=(rest if placeholder else before).strip())


@cache
def load_prompt(name: str, language: str) -> PromptText:
    """Read a prompt file. Raises RecipeError naming the prompts that exist in that language."""
    path = _FOLDER / language / f"{name}.txt"
    if not path.is_file():
        names = ", ".join(prompt_names(language)) or "none"
        raise RecipeError(f"there is no prompt {name!r} in language {language!r}; there are: {names}")
    text = path.read_text(encoding="utf-8").strip()
    return PromptText(name, language, text, text_id(text))


def prompt_names(language: str) -> list[str]:
    """Names of all prompts in a language, sorted."""
    return sorted(path.stem for path in (_FOLDER / language).glob("*.txt"))

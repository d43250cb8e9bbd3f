"""Whether an embedding model knows the texts that it is given: the share of tokens unknown to it, and of texts cut.

A model that knows few of a text's tokens sees nothing but [UNK] for the rest: to it, answers that name different
cities are the same answer. Over UNKNOWN_WARNING of unknown tokens or CUT_WARNING of cut texts is a warning, over LIMIT
an error, with its cause and remedy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.errors import RecipeError

UNKNOWN_WARNING = 0.2
CUT_WARNING = 0.01
LIMIT = 0.5
REMEDY = (
    "set embedding.model to one that knows the language: multilingual-e5-small, in the box (100 languages, 512 "
    "tokens), or BAAI/bge-m3 from the hub (8,192 tokens)"
)


@dataclass(slots=True)
class EmbeddedTexts:
    """Counts of texts that were embedded, and of their tokens."""

    texts: int = 0
    in_windows: int = 0  # texts that were too long for one window
    cut: int = 0  # texts whose end was lost
    tokens: int = 0
    unknown: int = 0  # tokens

    def add(self, size: Mapping[str, Any]) -> None:
        """Count a text, by `TextSize.to_json`."""
        self.texts += 1
        self.in_windows += size["windows"] > 1
        self.cut += bool(size["cut"])
        self.tokens += size["tokens"]
        self.unknown += size["unknown"]

    def merge(self, other: "EmbeddedTexts") -> None:
        """Count the texts that `other` has counted."""
        self.texts += other.texts
        self.in_windows += other.in_windows
        self.cut += other.cut
        self.tokens += other.tokens
        self.unknown += other.unknown

    @property
    def cut_share(self) -> float:
        return self.cut / self.texts if self.texts else 0.0

    @property
    def unknown_share(self) -> float:
        return self.unknown / self.tokens if self.tokens else 0.0

    def warning(self, what: str, model: str = "") -> str:
        """What is wrong with embedding `what` by `model`, and what to do; empty when nothing is."""
        name = f"the embedding model {model!r}" if model else "the embedding model"
        if self.unknown_share > UNKNOWN_WARNING:
            return (
                f"{100 * self.unknown_share:.0f}% of the tokens of {what} are unknown to {name}, which cannot tell "
                f"texts apart by them; {REMEDY}"
            )
        if self.cut_share > CUT_WARNING:
            return (
                f"{100 * self.cut_share:.0f}% of {what} are longer than the window of {name} and lose their end; set "
                "embedding.max_tokens to its window and leave truncate_tokens out, to have them embedded in windows"
            )
        return ""

    def refuse_unfit(self, what: str, model: str) -> None:
        """Raise RecipeError where the model does not know, or does not see, most of what it is given."""
        if max(self.unknown_share, self.cut_share) > LIMIT:
            raise RecipeError(self.warning(what, model))

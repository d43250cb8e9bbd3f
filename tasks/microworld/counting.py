"""How many tokens a text has for the microworld's tokenizer, counted without a tokenizer library.

The tokenizer (see `tokenizer`) cuts a text into words, numbers and single characters and has no merges: a piece of
its vocabulary is one token, any other is one for each UTF-8 byte. So a piece counts the same wherever it stands, and
texts that are cut between pieces can be counted apart and added up. Special tokens are left out: the world's texts
have none.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from infra.errors import PrerequisiteError
from infra.models.tokens import resolve_model

TOKENIZER = Path(resolve_model("microworld")) / "tokenizer.json"


def count_tokens(text: str) -> int:
    """Tokens of a text, exactly. Raises PrerequisiteError when the tokenizer in the box is of another make."""
    splitter, cost = _rules()
    return sum(map(cost.__getitem__, splitter.findall(text)))


class _Cost(dict[str, int]):
    """The tokens of a piece, looked up in the vocabulary when it comes up first."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        super().__init__()
        self._vocabulary = vocabulary

    def __missing__(self, piece: str) -> int:
        # a byte-level vocabulary writes a space as this letter, and bytes of other letters as what are letters too
        known = piece.isascii() and piece.replace(" ", "\u0120") in self._vocabulary
        self[piece] = 1 if known else len(piece.encode())
        return self[piece]


@cache
def _rules() -> tuple[re.Pattern[str], _Cost]:
    """The tokenizer's own pattern and vocabulary."""
    settings = json.loads(TOKENIZER.read_text(encoding="utf-8"))
    splitter = settings["pre_tokenizer"]["pretokenizers"][0]
    if settings["model"]["merges"] or "Regex" not in splitter["pattern"]:
        raise PrerequisiteError(f"{TOKENIZER}: not the microworld's tokenizer; make it with tasks/microworld/tokenizer")
    return re.compile(splitter["pattern"]["Regex"]), _Cost(settings["model"]["vocab"])

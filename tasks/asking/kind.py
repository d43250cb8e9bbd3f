"""What a kind of question is. Each kind is one file of `tasks/asking/kinds` with a constant `KIND`.

A kind says where its questions come from, what must hold of a question that was written (its own test), and when two
answers to it are the same. Its prompt is `tasks/prompts/LANGUAGE/ask-full-NAME.txt`, with `-` for `_`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from infra.errors import RecipeError
from infra.plugins import find_plugins
from tasks.asking.matching import same_text
from tasks.records.question import EvidenceSpan

# one: a passage of a document; long: the longest that the recipe allows; apart: two passages of one document;
# documents: a passage of each of two documents that are alike; whole: all of the document that stands in the row.
Source = Literal["one", "long", "apart", "documents", "whole"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A question as it was written: its answers (the items of a list) and the sentences of its proof."""

    question: str
    answers: tuple[str, ...]
    proof: tuple[str, ...]


NO_DRAFT = Draft("", (), ())
OwnTest = Callable[[Draft, Sequence[EvidenceSpan]], str | None]


def _passes(draft: Draft, evidence: Sequence[EvidenceSpan]) -> None:
    """Nothing more is needed."""


@dataclass(frozen=True, slots=True)
class QuestionKind:
    """A kind of question. `test` says what is wrong with a draft, None where nothing is; it makes no call.

    `same(answers, reply)`: whether a reply says what the answers say. `needs_each`: leaving one sentence of the proof
    out must make the question impossible to answer. `answered` is False for questions that the documents do not answer.
    `histories`: it is asked about histories alone, whose proof is whole turns. `from_proof` is False where the proof
    alone cannot answer it, as what comes after it matters.
    """

    name: str
    source: Source
    test: OwnTest = _passes
    same: Callable[[Sequence[str], str], bool] = same_text
    needs_each: bool = False
    several_answers: bool = False  # the answer is a list of items
    answered: bool = True
    histories: bool = False
    from_proof: bool = True

    @property
    def prompt(self) -> str:
        """The name of its prompt file, without the set of prompts."""
        return self.name.replace("_", "-")


@cache
def known_kinds() -> Mapping[str, QuestionKind]:
    """All kinds by name."""
    return find_plugins("tasks.asking.kinds", "KIND")


def kinds_of(shares: Mapping[str, float]) -> list[tuple[QuestionKind, float]]:
    """The kinds of a recipe with a share above 0, by name, and their shares of the whole. Raises RecipeError."""
    kinds = []
    for name in sorted(shares):
        if name not in known_kinds():
            raise RecipeError(f"asking.kinds: there is no kind {name!r}; there are: {', '.join(known_kinds())}")
        if shares[name] > 0:
            kinds.append((known_kinds()[name], shares[name] / sum(shares.values())))
    return kinds

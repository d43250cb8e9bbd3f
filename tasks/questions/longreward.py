"""LongReward's JSONL (Zhang et al., 2024), as its repository's example and the LongReward-10k files have it.

    {"idx": 11, "query": "...", "context": "...", "answer": "..."}                         the SFT file
    {"idx", "query", "context", "win_response", "lose_response"}                           the preference files

`answer` and the responses are long answers of a model, not gold answers. They go into the metadata and are not used
as references, because SubEM would be near zero for every answer. The files mix English and Chinese and do not name
the language: a row that states none is Chinese when at least a third of the letters in its query are Han characters,
else it has the recipe's language.
"""

from collections.abc import Mapping
from typing import Any

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    id_field,
    language_of,
    make_question,
    metadata_of,
    text_field,
)

_FIELDS = {"idx", "id", "query", "question", "context", "language"}


def read_longreward(row: SourceRow, language: str) -> RawQuestion:
    """A row of LongReward's SFT or preference files."""
    query = text_field(row, "query", "question", required=True) or ""
    return make_question(
        id_field(row, "idx", "id"),
        query,
        language_of(row, query, language),
        context=text_field(row, "context", required=True),
        metadata=metadata_of(row, _FIELDS),
    )


def _fits(values: Mapping[str, Any]) -> bool:
    return "query" in values and "context" in values


FORMAT = QuestionFormat("longreward", read_longreward, "LongReward's files that hold contexts: SFT and pairs", _fits)

"""LongReward's JSONL (Zhang et al., 2024), as its repository's example and the LongReward-10k files have it.

    {"idx": 11, "query": "...", "context": "...", "answer": "..."}                         the SFT file
    {"idx", "query", "context", "win_response", "lose_response"}                           the preference files

`answer` and the responses are long answers of a model, not gold answers. They go into the metadata and are not used
as references, because SubEM would be near zero for every answer. The files mix English and Chinese and do not name
the language: a row that states none is Chinese when at least a third of the letters in its query are Han characters,
else it has the recipe's language.
"""

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    id_field,
    make_question,
    metadata_of,
    text_field,
)

_FIELDS = {"idx", "id", "query", "question", "context", "language"}


def read_longreward(row: SourceRow, language: str) -> RawQuestion:
    """A row of LongReward's SFT or preference files."""
    query = text_field(row, "query", "question", required=True) or ""
    stated = text_field(row, "language")
    if not stated and _is_chinese(query):
        language = "zh"
    return make_question(
        id_field(row, "idx", "id"),
        query,
        stated or language,
        context=text_field(row, "context", required=True),
        metadata=metadata_of(row, _FIELDS),
    )


FORMAT = QuestionFormat("longreward", read_longreward)


def _is_chinese(text: str) -> bool:
    letters = list(filter(str.isalpha, text))
    han = sum("\u4e00" <= character <= "\u9fff" for character in letters)
    return bool(letters) and 3 * han >= len(letters)

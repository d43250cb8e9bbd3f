"""What all question formats share: the type of a row, the type of a question, and functions that read fields.

A format is one file in this folder with `FORMAT = QuestionFormat(...)`; adding the file is all that it takes to add a
format. `read` gets a row, and the language of rows that state none. It returns a RawQuestion, or a Drop for a row that
the format itself marks as unusable, and raises InputError for a field that is missing or of another type. `fits` says
whether a row has the fields of the format, so that `longmill formats` can name the format of a file. `rows` is for
formats that hold several questions in one row: it gives a row for each of them.
Empty texts, repeated ids and languages are checked for all formats in one place, `read_questions`.
"""

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infra.canonical import fingerprint
from infra.errors import InputError
from tasks.prompts import load_prompt
from tasks.records.example import Document, Drop

_LANGUAGES = {"en": "en", "zh": "zh", "english": "en", "chinese": "zh"}


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One raw row: `number` counts from 1, lines in a JSONL file and rows elsewhere."""

    file: str
    number: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """A message of a conversation. `role`: "user", "assistant", "system" or "tool"."""

    role: str
    text: str
    name: str = ""  # of the speaker or the tool
    calls: tuple[tuple[str, str], ...] = ()  # of tools: name and arguments
    time: str = ""
    call_ids: tuple[str, ...] = ()  # of `calls`; "" for one without
    call_id: str = ""  # of the call that a tool's turn answers

    @property
    def says_something(self) -> bool:
        """Whether it has a text, calls a tool, or is the result of one: an empty result says that nothing came."""
        return bool(self.text.strip() or self.calls) or self.role == "tool"


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation in one sitting. `supports`: the answer needs it. `tools` that there were, each as JSON."""

    time: str
    turns: tuple[Turn, ...]
    supports: bool = False
    tools: tuple[str, ...] = ()

    @property
    def spoken(self) -> list[Turn]:
        """The turns that say something: no others are in a prompt or a document."""
        return [turn for turn in self.turns if turn.says_something]

    @property
    def silent(self) -> int:
        """How many turns say nothing: an empty message, or one of images alone."""
        return len(self.turns) - len(self.spoken)

    def to_json(self, *, with_tools: bool = True) -> dict[str, Any]:
        """JSON-ready values; without what only messages with tool calls need."""
        values = asdict(self)
        if not with_tools:
            del values["tools"]
            for turn in values["turns"]:
                del turn["call_ids"], turn["call_id"]
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Session":
        """The session that `to_json` described."""
        turns = []
        for turn in values["turns"]:
            calls = tuple((name, arguments) for name, arguments in turn["calls"])
            turns.append(Turn(**{**turn, "calls": calls, "call_ids": tuple(turn.get("call_ids", ()))}))
        return Session(values["time"], tuple(turns), values["supports"], tuple(values.get("tools", ())))


@dataclass(frozen=True, slots=True)
class RawQuestion:
    """A question before it has its context. `documents` support the answer, `distractors` do not.

    `sessions` are there where the row holds chat messages: the same text once more, as messages.
    """

    example_id: str
    question: str
    references: tuple[str, ...]
    kind: str
    language: str  # as the row states it; `read_questions` lets en and zh through
    metadata: str  # a JSON object
    context: str | None
    documents: tuple[Document, ...]
    distractors: tuple[Document, ...]
    sessions: tuple[Session, ...] = ()


Adapter = Callable[[SourceRow, str], RawQuestion | Drop]  # the row, and the language of rows that state none


def one_row(row: SourceRow) -> Iterable[SourceRow]:
    """The rows of a format that has one question in each."""
    return (row,)


@dataclass(frozen=True, slots=True)
class QuestionFormat:
    """How the rows of one format are read. `about` says in a few words what the format is."""

    name: str
    read: Adapter
    about: str
    fits: Callable[[Mapping[str, Any]], bool]
    rows: Callable[[SourceRow], Iterable[SourceRow]] = one_row  # a row for each question of a row


def make_question(
    question_id: str | None,
    question: str,
    language: str,
    *,
    context: str | None = None,
    documents: Sequence[Document] = (),
    distractors: Sequence[Document] = (),
    references: Sequence[str] = (),
    kind: str = "",
    metadata: Mapping[str, Any] | None = None,
    sessions: Sequence[Session] = (),
) -> RawQuestion:
    """A RawQuestion, without the documents that have no text. A missing id is derived from question and sources."""
    documents = [document for document in documents if document.text.strip()]
    distractors = [document for document in distractors if document.text.strip()]
    sources = _titles_and_texts(documents)
    return RawQuestion(
        example_id=question_id or fingerprint([question, context, sources])[:16],
        question=question,
        references=tuple(references),
        kind=kind,
        language=language,
        metadata=json_object(metadata or {}),
        context=context,
        documents=tuple(documents),
        distractors=tuple(distractors),
        sessions=tuple(sessions),
    )


def content_digest(question: RawQuestion) -> str:
    """sha256 of everything but the id, to tell a repeated row from another row with the same id."""
    sources = [_titles_and_texts(question.documents), _titles_and_texts(question.distractors)]
    return fingerprint([question.question, question.context, sources, question.references, question.language])


def language_code(language: str) -> str | None:
    """ "en" or "zh" for a language as a row states it; None for any other language."""
    return _LANGUAGES.get(language.strip().lower().replace("_", "-").split("-")[0])


def language_of(row: SourceRow, text: str, language: str) -> str:
    """The language of a row of a format that mixes them: as the row states it, else Chinese when at least a third of
    the letters in `text` are Han characters, else `language`."""
    stated = text_field(row, "language")
    if stated:
        return stated
    letters = list(filter(str.isalpha, text))
    han = sum("\u4e00" <= character <= "\u9fff" for character in letters)
    return "zh" if letters and 3 * han >= len(letters) else language


def question_text(name: str, language: str, **values: str) -> str:
    """The text of the prompt file `question-NAME.txt` in a language; in English where there is no such language."""
    return load_prompt(f"question-{name}", language_code(language) or "en").render(**values)


def fault(row: SourceRow, field: str, problem: str, remedy: str) -> InputError:
    """The error for a field that cannot be read."""
    return InputError(f"{row.file}, row {row.number}, field {field!r}: {problem}; {remedy}")


def text_field(row: SourceRow, *names: str, required: bool = False) -> str | None:
    """The first of the named fields that the row has, as text; null counts as absent.

    Raises InputError when it is not text, or when it is required and the row has none of the fields. A required
    field that is null is "", so that one empty cell is a counted drop and a missing column is an error.
    """
    for name in names:
        value = row.values.get(name)
        if isinstance(value, str):
            return value
        if value is not None:
            raise fault(row, name, f"holds {_kind(value)} instead of text", "write it as a string")
    if not required:
        return None
    if row.values.keys().isdisjoint(names):
        raise fault(row, names[0], "is missing", f"the row has {_names(row)}; is `questions.format` right?")
    return ""


def id_field(row: SourceRow, *names: str) -> str | None:
    """The row's id as text; whole numbers are ids too. None when the row has none, or an empty one."""
    for name in names:
        value = row.values.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None and not isinstance(value, str):
            raise fault(row, name, f"holds {_kind(value)} instead of an id", "write it as a string or a whole number")
        if value:
            return str(value)
    return None


def texts_field(row: SourceRow, name: str) -> tuple[str, ...]:
    """A list of texts; absent and null are the empty list."""
    value = row.values.get(name)
    if value is None:
        return ()
    if not _is_list_of(str, value):
        raise fault(row, name, f"holds {_kind(value)} instead of a list of strings", 'write it as ["...", "..."]')
    return tuple(value)


def answers_field(row: SourceRow, name: str) -> tuple[str, ...]:
    """References from a field that holds a text, a number or a list of them; absent, null and empty ones are none.

    Raises InputError for anything else.
    """
    value = row.values.get(name)
    if value is None:
        return ()
    answers = []
    for answer in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(answer, bool) or not isinstance(answer, (str, int, float)):
            problem = f"holds {_kind(answer)} instead of a text or a list of texts"
            raise fault(row, name, problem, 'write it as "..." or ["...", "..."]')
        answers.append(str(answer))
    return tuple(filter(str.strip, answers))


def records_field(row: SourceRow, name: str, required: bool = False) -> list[Mapping[str, Any]]:
    """A list of objects, or the same as one object of equally long lists (as some Parquet exports have it)."""
    value = row.values.get(name)
    if value is None:
        if required and name not in row.values:
            raise fault(row, name, "is missing", f"the row has {_names(row)}; is `questions.format` right?")
        return []
    if isinstance(value, Mapping):
        columns = list(value.values())
        if not _is_list_of(list, columns) or len(set(map(len, columns))) > 1:
            raise fault(row, name, "is an object whose values are not equally long lists", "write a list of objects")
        records: list[Mapping[str, Any]] = []
        for cells in zip(*columns, strict=True):
            records.append(dict(zip(value, cells, strict=True)))
        return records
    if not _is_list_of(Mapping, value):
        raise fault(row, name, f"holds {_kind(value)} instead of a list of objects", "write a list of objects")
    return list(value)


def document_field(row: SourceRow, name: str, record: Mapping[str, Any], text: str = "text") -> Document:
    """One object of a list of documents: its text, and its title where it has one."""
    parts = {"title": record.get("title"), text: record.get(text)}
    for key, value in parts.items():
        if value is not None and not isinstance(value, str):
            raise fault(row, f"{name}.{key}", f"holds {_kind(value)} instead of text", "write it as a string")
    if text not in record:
        raise fault(row, f"{name}.{text}", "is missing", f'write each document as {{"title": "...", "{text}": "..."}}')
    return Document(parts["title"] or "", parts[text] or "")


def metadata_of(row: SourceRow, used: Collection[str]) -> dict[str, Any]:
    """The fields of a row that are not null and that its format does not use otherwise."""
    metadata = {}
    for name, value in row.values.items():
        if name not in used and value is not None:
            metadata[name] = value
    return metadata


def json_object(values: Mapping[str, Any]) -> str:
    """JSON with sorted keys. NaN becomes null, values that JSON does not have become text, and lone surrogates are
    written as escapes."""
    text = json.dumps(_plain(values), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return list(map(_plain, value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return str(value)


def _titles_and_texts(documents: Sequence[Document]) -> list[list[str]]:
    return [[document.title, document.text] for document in documents]


def _is_list_of(kind: type, value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(member, kind) for member in value)


def _kind(value: Any) -> str:
    """The type of a value of JSON, in words."""
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), f"a value of type {type(value).__name__}")


def _names(row: SourceRow) -> str:
    return ", ".join(sorted(map(str, row.values))[:12]) or "no fields"

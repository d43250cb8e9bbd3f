"""Which format a row is of, and the recipe settings that read it: for `longmill formats` and for error messages.

A format file here says itself whether it fits. Beside these there are rows that people have and that no format reads:
some can be read with `questions.fields`, some hold no document at all, and get a sentence that says what to do.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.recipe.recipe import Questions
from tasks.questions.question import QuestionFormat

_QUESTIONS = ("question", "query", "instruction", "problem", "input", "prompt")
_CONTEXTS = ("context", "document", "article", "passage", "text", "report", "story", "transcript", "content")
_ANSWERS = ("answers", "answer", "outputs", "output", "references", "reference", "target", "summary", "highlights")
_OPTIONS = ("choices", "options")
_PARAGRAPHS = "\n\n"


@dataclass(frozen=True, slots=True)
class Guess:
    """What a row seems to be. `settings` are changes of a recipe ("questions.format=squad") that read such rows; where
    there are none, `remedy` says what to do. Where there are some, it says what to look at."""

    name: str
    settings: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def advice(self) -> str:
        """A sentence for an error message."""
        if not self.settings:
            return f"The row looks like {self.name}: {self.remedy}"
        return f"The row looks like {self.name}: set {' and '.join(self.settings)}"


def guess_format(values: Mapping[str, Any], formats: Iterable[QuestionFormat]) -> Guess | None:
    """The best guess for a row; None when nothing in it looks like a question about a text."""
    for form in formats:
        if form.fits(values):
            return Guess(f"the format {form.name} ({form.about})", (f"questions.format={form.name}",))
    return _without_document(values) or _pairs(values) or _conversation(values) or _by_names(values)


def format_hint(values: Mapping[str, Any], settings: Questions, formats: Iterable[QuestionFormat]) -> str:
    """A sentence on how to read a row that these settings cannot read; empty when there is no better way."""
    guess = guess_format(values, formats)
    if guess is None or (settings.fields is None and guess.settings == (f"questions.format={settings.format}",)):
        return ""
    return guess.advice


def _without_document(values: Mapping[str, Any]) -> Guess | None:
    """Files of known projects whose rows need a document that is elsewhere."""
    if "query" in values and "answer" in values and _path_in(values, _CONTEXTS) is None:
        remedy = "they hold no document; take LongReward's file with `context` and set questions.format=longreward"
        return Guess("LongReward's sampled answers", remedy=remedy)
    if "doc" in values and "prompt_template" in values:
        remedy = (
            "`doc` names files that are not in the rows; write their texts into rows "
            '{"question", "documents": [{"title", "text"}], "answer"} and set questions.format=native'
        )
        return Guess("Loong's questions", remedy=remedy)
    if "needle" in values and "character_set" in values:
        remedy = (
            "they hold needles and no text; place them in a text with NoLiMa's own script, and write rows "
            '{"question", "context", "answers"} for questions.format=native'
        )
        return Guess("NoLiMa's needle sets", remedy=remedy)
    return None


def _pairs(values: Mapping[str, Any]) -> Guess | None:
    """Preference pairs, whose prompt may hold a document."""
    if "chosen" not in values or "rejected" not in values:
        return None
    path = "prompt" if _PARAGRAPHS in str(values.get("prompt")) else None
    if isinstance(values.get("prompt"), (list, tuple)):
        path = _message_path(values, "prompt")
    if path is not None:
        return _split_at_paragraph("preference pairs with a document in the prompt, as SeaLong's", path)
    remedy = (
        "they hold no document to ask about; as they are, `longmill train --data` trains on them, and `training.mix` "
        "adds them to a dataset's own pairs"
    )
    return Guess("preference pairs without documents, as UltraFeedback's", remedy=remedy)


def _conversation(values: Mapping[str, Any]) -> Guess | None:
    """Conversations to train on, whose first message may hold a document and the question after it."""
    for name in ("messages", "conversations"):
        if not isinstance(values.get(name), (list, tuple)):
            continue
        path = _message_path(values, name)
        if path is not None:
            return _split_at_paragraph("conversations with a document, as LongAlign's", path)
        return Guess("conversations without documents", remedy="they hold no document to ask about; take rows that do")
    return None


def _message_path(values: Mapping[str, Any], name: str) -> str | None:
    """The path of the first message of a list that has several paragraphs; None when no message has."""
    for number, message in enumerate(values[name]):
        for part in ("content", "value"):
            if isinstance(message, Mapping) and _PARAGRAPHS in str(message.get(part)):
                return f"{name}.{number}.{part}"
    return None


def _split_at_paragraph(name: str, path: str) -> Guess:
    remedy = "the last paragraph is taken as the question: look at the first one below"
    return Guess(name, (_fields({"context": path, "separator": _PARAGRAPHS}),), remedy)


def _by_names(values: Mapping[str, Any]) -> Guess | None:
    """Fields by their names, and by where their text stands in them."""
    context = _path_in(values, _CONTEXTS)
    if context is None:
        return None
    fields: dict[str, str] = {"context": context}
    question = _path_in(values, _QUESTIONS)
    if question is None:
        fields["template"] = "Summarise the text on one page."
    else:
        fields["question"] = question
    answers = _path_in(values, _ANSWERS, lists=True)
    if answers is not None and answers != context:
        fields["answers"] = answers
    choices = _path_in(values, _OPTIONS, lists=True)
    if choices is not None:
        fields["choices"] = choices
    name = "documents without questions" if question is None else "questions about a text"
    return Guess(name, (_fields(fields),), "the fields are guessed by their names: look at the first question below")


def _path_in(values: Mapping[str, Any], names: Iterable[str], lists: bool = False) -> str | None:
    """The path of the first of these fields that holds text, or a list where lists will do."""
    for name in names:
        value = values.get(name)
        if isinstance(value, str) and value.strip():
            return name
        if isinstance(value, Mapping):
            for part in ("text", "content"):
                if isinstance(value.get(part), str) or (lists and isinstance(value.get(part), (list, tuple))):
                    return f"{name}.{part}"
        if lists and isinstance(value, (list, tuple)) and value:
            return f"{name}.*.text" if isinstance(value[0], Mapping) and "text" in value[0] else name
    return None


def _fields(fields: Mapping[str, str]) -> str:
    return f"questions.fields={json.dumps(fields, ensure_ascii=False)}"

"""Writing a question: the prompt with the passages, the form of the reply, and how it is read."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from infra.models.protocol import Prompt
from infra.recipe import Asking
from tasks.asking.kind import NO_DRAFT, Draft, QuestionKind, known_kinds
from tasks.documents.histories import HistoryTurn
from tasks.judging.asking import judge_settings, quoted_prompt
from tasks.judging.context import ScoringContext
from tasks.judging.quoting import quoted
from tasks.judging.replies import Unusable, refusal_reason, without_thinking
from tasks.judging.steps import JudgeQuery, ModelRole, ReplyForm
from tasks.records.example import Context, Example

WRITE = "write"  # the kind of the call
DECLINED = "declined"  # why there is no draft: the passages hold no such question
_OBJECT = re.compile(r"\{")

Span = tuple[int, int, int]  # document of the row, [start, end) of its text


@dataclass(frozen=True, slots=True)
class Place:
    """A document of a question's row. `start`: of the text, in characters of the whole document.

    `page_starts`: offsets in the text at which further pages begin.
    """

    document_id: str
    title: str
    start: int
    text: str
    page: int | None = None  # on which the text begins, from 1
    page_starts: tuple[int, ...] = ()
    turns: tuple[HistoryTurn, ...] = ()  # of a history, with offsets in `text`
    tools: tuple[str, ...] = ()  # of a history, each as JSON

    def turn_at(self, offset: int) -> HistoryTurn | None:
        """The turn that says what stands at a character; None for a document that is no history."""
        return next((turn for turn in self.turns if turn.heading <= offset < turn.end), None)

    def page_at(self, offset: int) -> int | None:
        """The page on which a character of the text stands; None for a document without pages."""
        return None if self.page is None else self.page + sum(start <= offset for start in self.page_starts)


@dataclass(frozen=True, slots=True)
class IntendedQuestion:
    """A row of a plan of asking: the documents of the question and the spans of them that it is written from."""

    example_id: str
    context_id: str
    kind: QuestionKind
    language: str
    places: tuple[Place, ...]
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, example: Example, context: Context) -> "IntendedQuestion":
        """The intended question in an example of a plan of asking."""
        metadata: Mapping[str, Any] = json.loads(example.metadata)
        places = []
        for source, start, end in zip(metadata["documents"], context.span_starts, context.span_ends, strict=True):
            own = source["document_id"], source["title"], source["start"], context.text[start:end]
            turns = tuple(HistoryTurn(**turn) for turn in source.get("turns", ()))
            pages = source.get("page"), tuple(source.get("page_starts", ()))
            places.append(Place(*own, *pages, turns, tuple(source.get("tools", ()))))
        spans = tuple((int(place), int(start), int(end)) for place, start, end in metadata["spans"])
        kind = known_kinds()[example.kind]
        return cls(example.example_id, example.context_id, kind, example.language, tuple(places), spans)

    @property
    def passages(self) -> list[tuple[str, str]]:
        """Title and text of each span."""
        return [(self.places[place].title, self.places[place].text[start:end]) for place, start, end in self.spans]


def passages_text(passages: list[tuple[str, str]]) -> str:
    """Passages between tags, each under its title, quoted."""
    blocks = []
    for title, text in passages:
        heading = f"{quoted(title)}\n" if title.strip() else ""
        blocks.append(f"<document>\n{heading}{quoted(text)}\n</document>")
    return "\n".join(blocks)


def write_prompt(intended: IntendedQuestion, prompts: str) -> Prompt:
    """The prompt of a question. `prompts`: the set of prompt files."""
    passages = passages_text(intended.passages)
    if prompts == "terse":
        return quoted_prompt("ask-terse-write", intended.language, {"kind": intended.kind.name}, passages=passages)
    return quoted_prompt(f"ask-full-{intended.kind.prompt}", intended.language, {}, passages=passages)


def write_query(
    intended: IntendedQuestion, asking: Asking, scoring: ScoringContext, role: ModelRole
) -> JudgeQuery[Draft]:
    """The query for a question."""
    return JudgeQuery(
        WRITE,
        write_prompt(intended, judge_settings(scoring, role).prompts),
        intended.context_id,
        partial(read_draft, kind=intended.kind),
        asking.max_tokens,
        ReplyForm("json", json.dumps(schema(intended.kind))),  # in this order: the question comes first
        cut="never",
        parameters=(("temperature", asking.temperature),),
        subject=f"question {intended.example_id}",
    )


def schema(kind: QuestionKind) -> dict[str, Any]:
    """The JSON schema of a reply; a question that is null declines."""
    text, texts = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
    parts: dict[str, Any] = {"question": {"type": ["string", "null"]}}
    if kind.answered:
        parts |= {"answer": texts if kind.several_answers else text, "proof": texts}
    return {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}


def read_draft(text: str, kind: QuestionKind) -> Draft:
    """The draft in a reply: the last JSON object of it that has a question. Raises Unusable; DECLINED for none."""
    reply = without_thinking(text)
    value = _last_object(reply)
    if value is None:
        raise Unusable(refusal_reason(reply) or "no_json")
    question = value["question"]
    if question is None or (isinstance(question, str) and question.strip().lower() in ("", "null", "none")):
        return NO_DRAFT
    answers, proof = _texts(value.get("answer")), _texts(value.get("proof"))
    if not isinstance(question, str) or answers is None or proof is None:
        raise Unusable("wrong_fields")
    if kind.answered and not (answers and proof):
        raise Unusable("no_answer" if not answers else "no_proof")
    if not kind.answered:
        answers, proof = (), ()
    return Draft(" ".join(question.split()), answers, proof)


def _last_object(reply: str) -> Mapping[str, Any] | None:
    """The last JSON object of a reply that has the field "question"."""
    decoder = json.JSONDecoder(strict=False)
    last, end = None, 0
    for match in _OBJECT.finditer(reply):
        if match.start() < end:
            continue
        try:
            value, end = decoder.raw_decode(reply, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and "question" in value:
            last = value
    return last


def _texts(value: Any) -> tuple[str, ...] | None:
    """One text, a number or a list of them, without the empty ones; None for anything else."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    texts = []
    for entry in values:
        if isinstance(entry, bool) or not isinstance(entry, (str, int, float)):
            return None
        if str(entry).strip():
            texts.append(str(entry).strip())
    return tuple(texts)

"""A dataset of questions: its rows, its figures, its card.

A row is a question in Longmill's own format, with the documents that it is about, so that the dataset is the source of
another recipe's questions as it stands. It also has the sentences that prove the answer and the question's difficulty.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

import pyarrow as pa

from infra.canonical import canonical_json
from infra.recipe import Recipe
from infra.recipe.public import public_text
from infra.store import Store
from tasks.asking.checks import CHECKS, sections_of
from tasks.asking.writing import IntendedQuestion, Place
from tasks.documents.histories import HistoryTurn
from tasks.records import example as records
from tasks.records.dataset import Split, SplitName
from tasks.records.example import Context, Drop, Example
from tasks.records.manifest import ManifestFile
from tasks.records.plan import Plan
from tasks.records.product import HISTORIES, QUESTIONS
from tasks.records.product import ROWS as HISTORY_RULE
from tasks.records.question import WrittenQuestion
from tasks.records.schema import schema_of
from tasks.records.shard import ShardResult
from tasks.records.table import BUILD_AGAIN, StoredTable
from tasks.reporting.question_card import question_card
from tasks.shard_part import write_table

EXAMPLES_SHOWN = 1  # of each kind, in the card


class DocumentText(TypedDict):
    """A document of a row, or the part of it that the row has."""

    title: str
    text: str


class ProofSentence(TypedDict):
    """A sentence that proves the answer: [start, end) in the text of the row's document `document`."""

    document: int  # its place among the documents of the row, from 0
    start: int
    end: int
    sentence: str
    page: int | None  # of its document, from 1


class ProofTurn(ProofSentence):
    """A turn of a history that proves the answer."""

    turn: int | None  # its number in the whole document, from 1; null in a document that is no history
    role: str | None  # "user", "assistant", "system" or "tool"


class HistoryMessage(TypedDict):
    """A message as a policy sees it: the system and dates are text of their turn."""

    role: str
    content: str


class HistorySession(TypedDict):
    """A session of a row's documents; `supports`: it has a turn of the proof."""

    time: str
    messages: list[HistoryMessage]
    supports: bool


class CalledFunction(TypedDict):
    """What a tool call asks for. `arguments` as they came: JSON, if the model was right."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A tool call."""

    id: str
    type: str
    function: CalledFunction


class ToolMessage(HistoryMessage):
    """A message of a history with tool calls, in OpenAI's form. Those of other turns are null."""

    tool_calls: list[ToolCall] | None
    tool_call_id: str | None
    name: str | None
    timestamp: str | None


class ToolSession(HistorySession):
    """A session of a history with tool calls. `tools` are JSON; null where the history names none."""

    messages: list[ToolMessage]  # type: ignore[misc]  # with more than the other rows' have
    tools: str | None


class SourceOfText(TypedDict):
    """Where the text of a row's document comes from: [start, …) in characters of the whole document."""

    document_id: str
    title: str
    start: int
    page: int | None  # on which it begins, from 1


class QuestionRow(TypedDict):
    """A row of `questions`."""

    id: str
    question: str
    answers: list[str]
    kind: str
    language: str
    documents: list[DocumentText]
    evidence: list[ProofSentence]
    sources: list[SourceOfText]
    difficulty: float | None
    tries: int
    model: str
    plan_id: str


class HistoryRow(QuestionRow):
    """A row of `questions` of a plan with histories."""

    evidence: list[ProofTurn]  # type: ignore[misc]  # with more than the other rows' have
    sessions: list[HistorySession] | None  # null where no document is a history


class ToolRow(HistoryRow):
    """A row of `questions` of a plan with histories that have tool calls."""

    sessions: list[ToolSession] | None  # type: ignore[misc]  # with more than the other rows' have


ROWS = schema_of(QuestionRow)
HISTORY_ROWS = schema_of(HistoryRow)
TOOL_ROWS = schema_of(ToolRow)


def write_questions(
    store: Store,
    folder: str,
    result: ShardResult,
    examples: Sequence[Example],
    contexts: Mapping[str, Context],
    recipe: Recipe,
    split: Split,
    repeats: Mapping[str, Drop],
    *,
    schema: pa.Schema,
) -> list[ManifestFile]:
    """Write the Parquet files of a shard: questions by split, and drops, to which those that repeat another belong.

    `schema` is that of the plan (`row_schema`).
    """
    questions = records.from_table(result.files[QUESTIONS.name].read_checked(store), WrittenQuestion)
    drops = records.from_table(result.files["drops"].read_checked(store), Drop)
    by_id = {example.example_id: example for example in examples}
    rows: dict[SplitName, list[HistoryRow]] = {"train": [], "test": []}
    for question in questions:
        if question.example_id in repeats:
            drops.append(repeats[question.example_id])
            continue
        example = by_id[question.example_id]
        intended = IntendedQuestion.of(example, contexts[example.context_id])
        row = question_row(question, intended, recipe, result.plan_id)
        rows[split.side(question.context_id)].append(row)
    files: list[ManifestFile] = []
    for side, of_side in rows.items():
        if of_side:
            table = pa.Table.from_pylist(of_side, schema=schema)
            files.append(write_table(store, folder, f"data/{side}/{result.shard:04d}", table, QUESTIONS.name, side))
    if drops:
        table = records.to_table(drops, records.DROP)
        files.append(write_table(store, folder, f"drops/{result.shard:04d}", table, "drops", "train"))
    return files


def row_schema(plan: Plan) -> pa.Schema:
    """The columns of a plan's rows: with further ones where documents are histories, or have tool calls."""
    if plan.has_tool_calls:
        return TOOL_ROWS
    return HISTORY_ROWS if plan.rules.get(HISTORY_RULE) == HISTORIES else ROWS


def question_row(question: WrittenQuestion, intended: IntendedQuestion, recipe: Recipe, plan_id: str) -> HistoryRow:
    """The row of a question; what it has of histories is null where its documents are none."""
    documents: list[DocumentText] = []
    sources: list[SourceOfText] = []
    for place in intended.places:
        documents.append({"title": place.title, "text": place.text})
        sources.append(
            {"document_id": place.document_id, "title": place.title, "start": place.start, "page": place.page}
        )
    evidence: list[ProofTurn] = []
    for span in question.evidence:
        place = intended.places[span["document"]]
        turn = place.turn_at(span["start"])
        own = {"turn": turn.number if turn else None, "role": turn.role if turn else None}
        evidence.append({**span, "page": place.page_at(span["start"]), **own})  # type: ignore[typeddict-item]
    writer = recipe.models()[sections_of(recipe)[0]]
    return {
        "id": question.example_id,
        "question": question.question,
        "answers": list(question.answers),
        "kind": question.kind,
        "language": question.language,
        "documents": documents,
        "evidence": evidence,
        "sources": sources,
        "difficulty": question.difficulty,
        "tries": question.tries,
        "model": public_text(writer.name),
        "plan_id": plan_id,
        "sessions": _sessions(question, intended.places) or None,
    }


def _sessions(question: WrittenQuestion, places: Sequence[Place]) -> list[HistorySession]:
    """The sessions of the documents that are histories, in their order."""
    sessions: list[HistorySession] = []
    for number, place in enumerate(places):
        proof = {span["start"] for span in question.evidence if span["document"] == number}
        last = None
        for turn in place.turns:
            if turn.session != last:
                sessions.append({"time": "", "messages": [], "supports": False})  # dates are in the messages
                last = turn.session
                if place.tools:
                    sessions[-1]["tools"] = f"[{', '.join(place.tools)}]"  # type: ignore[typeddict-unknown-key]
            sessions[-1]["messages"].append(_message(turn, place.text[turn.start : turn.end]))
            sessions[-1]["supports"] |= turn.start in proof
    return sessions


def _message(turn: HistoryTurn, text: str) -> HistoryMessage:
    """The message of a turn that says `text`."""
    if not turn.tool_use:
        return {"role": turn.side, "content": text}
    fields = json.loads(turn.tool_use)
    start, end = fields.pop("content")
    role = turn.side if "tool_calls" in fields else turn.role
    message = {"role": role, "content": text[start:end]}
    message.update({name: value for name, value in fields.items() if value})
    return cast(HistoryMessage, message)


def write_question_papers(
    results: Sequence[ShardResult],
    recipe: Recipe,
    store: Store,
    folder: str,
    head: Mapping[str, Any],
    tables: Sequence[ManifestFile],
) -> list[ManifestFile]:
    """Write the figures and the card."""
    figures = question_figures(results, store, folder, head, tables)
    card = question_card(recipe, {**head, "files": list(tables)}, figures)
    papers = []
    for path, data in (("summary.json", canonical_json(figures)), ("README.md", card.encode("utf-8", "replace"))):
        store.write(f"{folder}/{path}", data)
        papers.append(ManifestFile(path=path, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)))
    return papers


def question_figures(
    results: Sequence[ShardResult],
    store: Store,
    folder: str,
    head: Mapping[str, Any],
    tables: Sequence[ManifestFile],
) -> dict[str, Any]:
    """Counts by kind and language, the checks with what they dropped, calls and tokens, and examples; JSON-ready."""
    kinds: dict[str, Counter[str]] = {}
    languages: Counter[str] = Counter()
    difficulties: dict[str, list[float]] = {}
    examples: dict[str, list[dict[str, Any]]] = {}
    for file in tables:
        if file.get("config") != QUESTIONS.name:
            continue
        table = StoredTable(f"{folder}/{file['path']}", file["sha256"], file["rows"])
        columns = ["question", "answers", "kind", "language", "evidence", "difficulty"]
        for row in table.read_checked(store, columns, remedy=BUILD_AGAIN).to_pylist():
            kinds.setdefault(row["kind"], Counter())[file["split"]] += 1
            languages[row["language"]] += 1
            if row["difficulty"] is not None:
                difficulties.setdefault(row["kind"], []).append(row["difficulty"])
            of_kind = examples.setdefault(row["kind"], [])
            if len(of_kind) < EXAMPLES_SHOWN:
                sentences = [span["sentence"] for span in row["evidence"]]
                of_kind.append({"question": row["question"], "answers": row["answers"], "evidence": sentences})
    checks: dict[str, Counter[str]] = {}
    calls: dict[str, Counter[str]] = {}
    for result in results:
        for row in result.files["judgements"].read_checked(store, ["scorer", "score"]).to_pylist():
            checks.setdefault(row["scorer"], Counter())["passed" if row["score"] else "dropped"] += 1
        columns = ["strategy", "prompt_tokens", "completion_tokens"]
        for row in result.files["answers"].read_checked(store, columns).to_pylist():
            tokens = Counter(calls=1, prompt_tokens=row["prompt_tokens"], completion_tokens=row["completion_tokens"])
            calls.setdefault(row["strategy"], Counter()).update(tokens)
    by_kind = {}
    for kind, counts in sorted(kinds.items()):
        values = difficulties.get(kind, [])
        mean = round(sum(values) / len(values), 4) if values else None
        by_kind[kind] = {"train": counts["train"], "test": counts["test"], "difficulty": mean}
    figures = {
        "counts": head["counts"],
        "kinds": by_kind,
        "languages": dict(sorted(languages.items())),
        "checks": [{"check": name, **checks[name]} for name in CHECKS if name in checks],
        "calls": {kind: dict(counts) for kind, counts in sorted(calls.items())},
        "examples": dict(sorted(examples.items())),
    }
    return dict(json.loads(canonical_json(figures)))

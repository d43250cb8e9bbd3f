"""Citations (LongCite, Zhang et al. 2024, arXiv 2409.02897): do the cited sentences support what an answer states?

The sentences of the context are numbered, <C0>, <C1>, ..., and the model gives the numbers behind each statement. The
judge then says, as LongCite defines it,

    citation_recall     of a statement with citations: how far the cited text supports it (1, 0.5, 0);
                        of one without: 1 where it needs none, else 0; the mean over the statements
    citation_precision  the share of the citations that hold something of their statement; 0 without any
    citation_f1         2PR / (P + R)

Neighbouring citations are one, three of a statement and 40 statements of an answer count. Text outside of the tags is
a statement without citations. Where the judge has no usable word on one of them, the figures that need it are missing.
"""

import hashlib
import re
import textwrap
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.evaluation.judged import role_of, support_query, yes_query
from tasks.evaluation.suites import JudgedSettings, Score, Scores, Suite, SuiteAnswer, SuiteJudge, SuiteQuestion
from tasks.judging.context import ScoringContext
from tasks.judging.steps import JudgeQuery, Step, Verdict, ask
from tasks.records.example import Context

_MOST_STATEMENTS = 40
_MOST_CITATIONS = 3
_EXPECTED_STATEMENT = 160  # characters of a statement, for estimates
_SHORTEST = 6  # characters of a statement outside of the tags
_SENTENCE = re.compile(r".+?(?:[.!?](?=\s)\s+|[。！？；][”’」』]?\s*|\n+|\Z)", re.DOTALL)
_NUMBER = re.compile(r"<C\d+>")
_STATEMENT = re.compile(r"<statement>(.*?)</statement>", re.DOTALL)
_CITE = re.compile(r"<cite>(.*?)</cite>", re.DOTALL)
_RANGE = re.compile(r"\[(\d+)-(\d+)\]")
_TAGS = re.compile(r"</?statement>|<cite>.*?</cite>|</?cite>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of an answer, and the texts that it cites."""

    text: str
    citations: tuple[str, ...]


def numbered_sentences(text: str) -> str:
    """The text with <C0>, <C1>, ... before its sentences; their blanks stay."""
    sentences = [match.group() for match in _SENTENCE.finditer(text)]
    return "".join(f"<C{number}>{sentence}" for number, sentence in enumerate(sentences))


def statements_of(answer: str, numbered: str) -> list[Statement]:
    """The statements of an answer. `numbered`: the context with its numbers."""
    sentences = _NUMBER.split(numbered)[1:]
    statements: list[Statement] = []
    position = 0
    for match in _STATEMENT.finditer(answer):
        _add_plain(answer[position : match.start()], statements)
        text = _TAGS.sub("", match.group(1)).strip()
        if text:
            statements.append(Statement(text, _cited_texts(match.group(1), sentences)))
        position = match.end()
    _add_plain(answer[position:], statements)
    return statements[:_MOST_STATEMENTS]


def _add_plain(text: str, statements: list[Statement]) -> None:
    plain = _TAGS.sub("", text).strip()
    if len(plain) >= _SHORTEST:
        statements.append(Statement(plain, ()))


def _cited_texts(text: str, sentences: Sequence[str]) -> tuple[str, ...]:
    ranges: list[tuple[int, int]] = []
    for numbers in _CITE.findall(text):
        for first, last in _RANGE.findall(numbers):
            start, end = int(first), min(int(last), len(sentences) - 1)
            if not start <= end:
                continue  # there is no such sentence
            if ranges and start == ranges[-1][1] + 1:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((start, end))
    return tuple("".join(sentences[start : end + 1]).strip() for start, end in ranges[:_MOST_CITATIONS])


def _prepare(question: SuiteQuestion, settings: Any, seed: int) -> SuiteQuestion:
    text = numbered_sentences(question.context.text)
    context_id = hashlib.sha256(text.encode()).hexdigest()
    example = replace(question.example, context_id=context_id)
    context = Context(context_id, text, question.context.tokens, (), (), ())
    return replace(question, example=example, context=context, task=question.example.kind)


def _judged(
    answers: Sequence[SuiteAnswer], settings: JudgedSettings, scoring: ScoringContext
) -> Generator[Step, Any, Sequence[Scores]]:
    supports: list[JudgeQuery[float]] = []
    needs: list[JudgeQuery[bool]] = []
    relevances: list[JudgeQuery[bool]] = []
    statements = [statements_of(answer.text, answer.context.text) for answer in answers]
    for answer, of_answer in zip(answers, statements, strict=True):
        question, plain = answer.example.question, _TAGS.sub("", answer.text).strip()
        for statement in of_answer:
            about = {"question": question, "statement": statement.text}
            if not statement.citations:
                needs.append(yes_query("cite-need", answer, about | {"answer": plain}, settings))
                continue
            snippet = "\n\n".join(statement.citations)
            supports.append(support_query("cite-support", answer, about | {"snippet": snippet}, settings))
            for citation in statement.citations:
                relevances.append(yes_query("cite-relevance", answer, about | {"snippet": citation}, settings))
    role = role_of(settings)
    support = iter((yield from ask(supports, "statements", role)))
    need = iter((yield from ask(needs, "statements", role)))
    relevance = iter((yield from ask(relevances, "citations", role)))
    scores = []
    for of_answer in statements:
        of_statements: list[Score] = []
        of_citations: list[Score] = []
        for statement in of_answer:
            if statement.citations:
                of_statements.append(_score(next(support)))
            else:
                needed = _score(next(need))
                of_statements.append(needed if needed.value is None else Score(1.0 - needed.value))
            for _ in statement.citations:
                of_citations.append(_score(next(relevance)))
        scores.append(_figures(_mean(of_statements), _mean(of_citations)))
    return scores


def _like_answer(text: str) -> str:
    """An answer of that length in statements, each with one citation."""
    words = textwrap.wrap(text, _EXPECTED_STATEMENT)
    return "".join(f"<statement>{part}<cite>[0-0]</cite></statement>" for part in words)


def _score(verdict: Verdict[Any]) -> Score:
    return Score(None, f"judge_{verdict.reason}") if verdict.value is None else Score(float(verdict.value))


def _mean(scores: Sequence[Score]) -> Score:
    """The mean; 0 without any; missing where one is."""
    total = 0.0
    for score in scores:
        if score.value is None:
            return score
        total += score.value
    return Score(total / len(scores) if scores else 0.0)


def _figures(recall: Score, precision: Score) -> Scores:
    f1 = next((score for score in (recall, precision) if score.value is None), Score(0.0))
    if recall.value and precision.value:
        f1 = Score(2 * recall.value * precision.value / (recall.value + precision.value))
    return {"citation_recall": recall, "citation_precision": precision, "citation_f1": f1}


SUITE = Suite(
    "citations",
    about="answers that cite numbered sentences: LongCite's recall, precision and F1 of citations",
    settings=JudgedSettings,
    needs_references=False,
    prepare=_prepare,
    prompt=lambda example, settings: "evaluate-citations",
    judge=SuiteJudge(
        ("citation_recall", "citation_precision", "citation_f1"),
        _judged,
        "1 a statement and 1 a citation",
        like_answer=_like_answer,
    ),
    answer_tokens={"": 1024},
)

"""A stub that writes and answers questions: no model, but a bank of gold questions and faults that were planted.

The bank is a JSON file, a list of rows as `asking.BankRow` writes them. A prompt to write names its row by the title of
its document; the reply is the row's. Whoever asks a question gets its gold answer where all sentences that prove it
stand in the prompt, else that it is not stated. Errors are drawn from the hash of the prompt, at the rates of the
arguments, so the same request gets the same reply. It reads the terse prompts. Run as `stub_server` is.
"""

import argparse
import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from flows.bench.stub_server import StubServer, chat_response, serve
from tasks.asking.matching import same_text
from tasks.asking.proof import plain

_TASK = re.compile(r"(?:Task: |任务：)(\S+)")
_ROW = re.compile(r"\(row (\d+)\)")
_QUESTION = re.compile(r"<question>\n(.*?)\n</question>", re.DOTALL)
_ANSWERS = re.compile(r"<(?:first|second)_answer>\n(.*?)\n</(?:first|second)_answer>", re.DOTALL)
_NOT_STATED, _UNKNOWN = "[[Not stated]]", "[[Unknown]]"


class StubAsker(StubServer):
    """A stub server with a bank of questions. Rates of errors, in [0, 1]: of answers, of labels, of the policy."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], errors: float, label_errors: float, misses: float) -> None:
        super().__init__()
        self._rows = rows
        self._by_question = {str(row["question"]): row for row in rows}
        self._errors, self._label_errors, self._misses = errors, label_errors, misses

    def _answer(self, raw: bytes, body: dict[str, Any], content: str) -> web.Response:
        return chat_response(raw, {**body, "max_tokens": 2**20}, content, self.reply(content, str(body.get("seed"))))

    def reply(self, prompt: str, seed: str) -> str:
        """The reply to a prompt; another seed may draw another error."""
        draw = _draw(prompt, seed)
        task = _TASK.match(prompt)
        step = task.group(1) if task else ""
        if step == "ask-write":
            number = _ROW.search(prompt)
            return str(self._rows[int(number.group(1))]["reply"]) if number else '{"question": null}'
        row = self._row(prompt)
        if row is None:
            return "Hello." if step == "" else _NOT_STATED
        if step == "ask-self-contained":
            return _label(bool(row["self_contained"]), draw < self._label_errors)
        if step == "self-evaluation-reference":
            first, second = _ANSWERS.findall(prompt)[-2:]
            same = _is_gold(first, row) == _is_gold(second, row) and (_is_gold(first, row) or first == second)
            return _label(same, draw < self._label_errors)
        if step == "ask-answer":
            right = self._stated(prompt, row)
            return self._answered(row, right, draw < self._errors)
        if "<question>" in prompt and plain(row["proof"][0] if row["proof"] else "?") not in plain(prompt):
            return str(row["answers"][0]) if row["knows_answer"] or draw < self._label_errors else _UNKNOWN
        return self._answered(row, self._stated(prompt, row), draw < self._misses)

    def _row(self, prompt: str) -> Mapping[str, Any] | None:
        questions = _QUESTION.findall(prompt)
        if questions:
            return self._by_question.get(questions[-1].strip())
        for question, row in self._by_question.items():  # a prompt of sampling, in which the question stands bare
            if question in prompt:
                return row
        return None

    def _stated(self, prompt: str, row: Mapping[str, Any]) -> bool:
        text = plain(prompt)
        return bool(row["proof"]) and all(plain(sentence) in text for sentence in row["proof"])

    def _answered(self, row: Mapping[str, Any], right: bool, error: bool) -> str:
        if right != error:
            return "; ".join(row["items"] or row["answers"][:1]) or _NOT_STATED
        return str(row["other"]) if right or error else _NOT_STATED


def _is_gold(text: str, row: Mapping[str, Any]) -> bool:
    return same_text([*row["answers"], "; ".join(row["items"])], text)


def _label(value: bool, error: bool) -> str:
    return "[[True]]" if value != error else "[[False]]"


def _draw(*parts: str) -> float:
    """A number in [0, 1) that the parts determine."""
    return int(hashlib.sha256("|".join(parts).encode("utf-8", "replace")).hexdigest()[:8], 16) / 2**32


def main() -> None:
    """Serve the stub that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--errors", type=float, default=0.05, help="share of wrong answers")
    parser.add_argument("--label-errors", type=float, default=0.03, help="share of wrong labels, and of lucky guesses")
    parser.add_argument("--misses", type=float, default=0.4, help="share of the policy's wrong tries")
    arguments = parser.parse_args()
    rows = json.loads(arguments.bank.read_text(encoding="utf-8"))
    stub = StubAsker(rows, arguments.errors, arguments.label_errors, arguments.misses)
    asyncio.run(serve(stub, arguments.port))


if __name__ == "__main__":
    main()

"""A stub judge in the test's own process: says what a function makes of each request, and keeps what it was asked.

Stands in the place of a ModelClient; equal requests are answered once, as by the ledger.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from infra.canonical import text_id
from infra.models.client import Failure, Outcome, Reply, Request
from infra.models.embedding.embedder import Embedder
from infra.recipe import Recipe, parse_recipe
from tasks.records.example import Answer, Context, Example, Judgement
from tasks.scoring import AnsweredQuestion, ScoringContext
from tasks.scoring.run import score_with

Says = Callable[[Request], "str | tuple[str, str] | Failure"]


class ScriptedJudge:
    """`says(request)` is a text, (text, finish reason) or a Failure."""

    def __init__(self, says: Says) -> None:
        self.says = says
        self.asked: list[Request] = []  # each key once
        self._held: dict[str, Outcome] = {}

    def complete(self, requests: Sequence[Request]) -> list[Outcome]:
        return [self._outcome(request) for request in requests]

    def record_refusal(self, request: Request, failure: Failure) -> None:
        """Every outcome is held anyway."""

    @property
    def calls(self) -> Counter[str]:
        return Counter(request.kind for request in self.asked)

    def _outcome(self, request: Request) -> Outcome:
        if request.key not in self._held:
            self.asked.append(request)
            said = self.says(request)
            if isinstance(said, Failure):
                self._held[request.key] = Failure(request.key, said.reason, said.detail, said.permanent)
            else:
                text, finish = said if isinstance(said, tuple) else (said, "stop")
                raw = (
                    text if text.startswith('{"choices"') else json.dumps({"choices": [{"message": {"content": text}}]})
                )
                self._held[request.key] = Reply(request.key, text, finish, 10, 5, False, raw)
        return self._held[request.key]


def prompt_of(request: Request) -> str:
    """The text that the judge was given."""
    return request.prompt.messages[-1]["content"]


def inside(request: Request, tag: str) -> str:
    """What stands between the last pair of tags."""
    found: list[str] = re.findall(rf"<{tag}>\n(.*?)\n</{tag}>", prompt_of(request), re.DOTALL)
    return found[-1]


def judged_recipe(*scorers: dict[str, Any], **sections: Any) -> Recipe:
    """A recipe with a terse judge that has the microworld's tokenizer."""
    settings: dict[str, Any] = {
        "name": "test",
        "questions": {"source": "questions.jsonl"},
        "policy": {"name": "stub", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:9/v1"]},
        "judge": {
            "name": "judge",
            "tokenizer": "microworld",
            "endpoints": ["http://127.0.0.1:9/v1"],
            "prompts": "terse",
            "structured": "never",
        },
        "scoring": {"scorers": list(scorers) or [{"scorer": "helpfulness"}]},
        "pairing": {"rule": "best_vs_worst", "min_scored": 2},
        "dataset": {"name": "test", "licence": "mit"},
    }
    return parse_recipe(settings | sections)


def scoring_with(judge: ScriptedJudge, recipe: Recipe, embedder: Embedder | None = None) -> ScoringContext:
    """A scoring bench around a scripted judge, with word counts for embeddings."""
    made = embedder or Embedder(count_words)
    return ScoringContext(lambda: made, None, recipe, judge)  # type: ignore[arg-type]


def judge_with(
    scorer: Any, questions: Sequence[AnsweredQuestion], settings: Any, scoring: ScoringContext
) -> list[Judgement]:
    """The judgements of one scorer alone; `scorer` is its module or its plug-in."""
    name = getattr(scorer, "NAME", None) or scorer.name
    return score_with(name, settings, questions, scoring)


def count_words(texts: list[str]) -> Any:
    """A vector of hashed words a text: texts that share words lie close."""
    vectors = np.zeros((len(texts), 64), np.float32)
    for row, text in enumerate(texts):
        for word in re.findall(r"\w+", text.lower()):
            vectors[row, int(text_id(word)[:6], 16) % 64] += 1
    return vectors


def case_of(
    *answers: str, context: str = "The sky is blue.", question: str = "Why?", name: str = "q1"
) -> AnsweredQuestion:
    """A question with these answers; an answer "CUT:..." was cut off at its limit."""
    example = Example(name, question, text_id(context), (), "", "en", "{}")
    drawn = tuple(
        Answer(name, index, text.removeprefix("CUT:"), "length" if text.startswith("CUT:") else "stop", 1, 1, "x", "k")
        for index, text in enumerate(answers)
    )
    return AnsweredQuestion(example, Context(text_id(context), context, 1, (0,), (len(context),), ("",)), drawn)

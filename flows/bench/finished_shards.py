"""A plan whose shards are finished, made up without a model: what publishing is measured on."""

import hashlib
import json
import random
from dataclasses import replace

import pyarrow as pa

from infra.canonical import canonical_json, fingerprint, text_id
from infra.recipe import Recipe, parse_recipe
from infra.store import Store, table_bytes
from tasks.records import example as records
from tasks.records.example import Answer, Context, Drop, Example, Judgement, Pair
from tasks.records.manifest import ManifestFile
from tasks.records.part import ShardPart, rows_folder, write_part
from tasks.records.plan import Plan, PlannedShard, plan_path
from tasks.records.shard import ShardResult, write_shard_result
from tasks.records.table import StoredTable

SCORERS = ("helpfulness", "logicality", "faithfulness", "completeness")
_WORDS = ("river", "stone", "lamp", "glass", "wheel", "harbour", "letter", "window", "garden", "market")


def finished_recipe(url: str, samples: int) -> Recipe:
    """LongReward's four scores of so many answers; the models are never called."""
    endpoints = ["http://127.0.0.1:9/v1"]
    return parse_recipe(
        {
            "name": "bench",
            "store": url,
            "questions": {"source": "questions.jsonl"},
            "policy": {"name": "stub", "tokenizer": "microworld", "endpoints": endpoints},
            "judge": {"name": "stub-judge", "tokenizer": "microworld-judge", "endpoints": endpoints},
            "sampling": {"samples": samples},
            "scoring": {"scorers": [{"scorer": name} for name in SCORERS]},
            "dataset": {"name": "bench", "licence": "cc0-1.0", "test_fraction": 0.05},
            "training": None,
            "evaluation": None,
        }
    )


def finished_plan(
    store: Store, recipe: Recipe, shards: int, questions: int, context_characters: int, different: int | None = None
) -> tuple[Plan, list[ShardResult]]:
    """Write a plan of `shards` × `questions`, a context each, every tenth question a drop, and all shard results.

    With `different`, only so many shards have tables of their own; those after them repeat them.
    """
    rng = random.Random(0)
    planned: list[PlannedShard] = []
    for index in range(shards):
        if different is not None and index >= different:
            planned.append(replace(planned[index % different], index=index))
            continue
        contexts = [_context(rng, context_characters) for _ in range(questions)]
        examples = [_example(context, index * questions + place) for place, context in enumerate(contexts)]
        planned.append(
            PlannedShard(
                index=index,
                examples=_put_input(store, records.to_table(examples, records.EXAMPLE)),
                contexts=_put_input(store, records.to_table(contexts, records.CONTEXT)),
                questions=questions,
                context_count=questions,
                prompt_tokens=questions * context_characters // 4,
            )
        )
    content = {
        "recipe": recipe.identity(),
        "prompts": {},
        "shards": [shard.to_json() for shard in planned],
        "questions": shards * questions,
        "drops": _put_input(store, records.to_table([], records.DROP)),
        "drop_counts": {},
        "exact_prompt_tokens": True,
        "warnings": [],
    }
    plan = Plan.from_json(json.loads(canonical_json({"plan_id": fingerprint(content)[:16], **content})))
    store.write(plan_path(plan.plan_id), canonical_json(plan.to_json()))
    results: list[ShardResult] = []
    for shard in planned:
        if different is not None and shard.index >= different:
            results.append(replace(results[shard.index % different], shard=shard.index))
            write_shard_result(store, results[-1])
        else:
            results.append(_finished_shard(store, plan, recipe, shard, rng))
    return plan, results


def repeat_part(store: Store, result: ShardResult, part: ShardPart) -> None:
    """Write the part of a shard that repeats another one's tables: the same, with files of rows under its own names."""
    folder = rows_folder(result.plan_id)
    rows: list[ManifestFile] = []
    places = {}
    for file in part.rows:
        stem, _, name = file["path"].rpartition("/")
        path = f"{stem}/{result.shard:04d}-{name.partition('-')[2]}"
        places[f"{folder}/{file['path']}"] = f"{folder}/{path}"
        rows.append({**file, "path": path})
    store.copy(places)
    write_part(store, result, replace(part, rows=rows))


def _finished_shard(store: Store, plan: Plan, recipe: Recipe, shard: PlannedShard, rng: random.Random) -> ShardResult:
    examples = records.from_table(store.read_table(shard.examples), Example)
    answers: list[Answer] = []
    judgements: list[Judgement] = []
    pairs: list[Pair] = []
    drops: list[Drop] = []
    for place, example in enumerate(examples):
        rewards = []
        for sample in range(recipe.sampling.samples):
            text = f"Answer: it is {rng.choice(_WORDS)}, number {sample}." + " and so on" * rng.randint(0, 20)
            key = hashlib.sha256(f"{example.example_id}/{sample}".encode()).hexdigest()
            answer = Answer(example.example_id, sample, text, "stop", 900, 10 + len(text) // 4, "default", key)
            answers.append(answer)
            scores = [float(rng.randint(0, 10)) for _ in SCORERS]
            for name, score in zip(SCORERS, scores, strict=True):
                judgements.append(answer.judged(name, score, evidence={"ratings": [score]}, keys=(key,)))
            rewards.append(round(sum(scores) / len(scores), 6))
        if place % 10 == 9:
            drops.append(Drop(example.example_id, "pair", "tie", "all answers have the same reward"))
            continue
        chosen, rejected = rewards.index(max(rewards)), rewards.index(min(rewards))
        margin = round(rewards[chosen] - rewards[rejected], 6)
        pairs.append(
            Pair(example.example_id, example.context_id, chosen, rejected, rewards[chosen], rewards[rejected], margin)
        )
    tables: dict[str, pa.Table] = {
        "answers": records.to_table(answers, records.ANSWER),
        "judgements": records.to_table(judgements, records.JUDGEMENT),
        "pairs": records.to_table(pairs, records.PAIR),
        "drops": records.to_table(drops, records.DROP),
    }
    stored = {}
    for name, table in tables.items():
        stored[name] = StoredTable.put(store, f"plans/{plan.plan_id}/shards/{shard.index:04d}/{name}", table)
    result = ShardResult.of(store, plan.plan_id, shard.index, len(examples), stored)
    write_shard_result(store, result)
    return result


def _context(rng: random.Random, characters: int) -> Context:
    text = f"{rng.random()} " + " ".join(rng.choices(_WORDS, k=characters // 7))
    return Context(text_id(text), text, len(text) // 4, (0,), (len(text),), ("",))


def _example(context: Context, number: int) -> Example:
    references = (_WORDS[number % len(_WORDS)],)
    return Example(f"q{number:07d}", f"What is number {number}?", context.context_id, references, "", "en", "{}")


def _put_input(store: Store, table: pa.Table) -> str:
    data = table_bytes(table)
    path = f"inputs/{hashlib.sha256(data).hexdigest()}.parquet"
    store.write(path, data)
    return path

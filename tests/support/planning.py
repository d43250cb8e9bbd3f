"""A small recipe over a byte-level tokenizer, and questions to plan with it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.models.tokens import Tokenizer
from infra.recipe import Questions, Recipe, parse_recipe
from tasks.contexts import BuiltQuestion
from tasks.planning.building import build_with, counted_pool
from tasks.planning.workers import planning_workers
from tasks.records.example import Drop
from tests.support.tokenizer import save_byte_tokenizer


def small_recipe(folder: Path, rows: list[dict[str, Any]] | None = None, **sections: dict[str, Any]) -> Recipe:
    """A recipe whose files lie in `folder`: rows as questions.jsonl, store and tokenizer beside them."""
    if rows is not None:
        write_rows(folder / "questions.jsonl", rows)
    if not (folder / "tokenizer").exists():
        save_byte_tokenizer(folder / "tokenizer")
    settings: dict[str, Any] = {
        "name": "small",
        "store": str(folder / "mill"),
        "questions": {"source": str(folder / "questions.jsonl")},
        "policy": {
            "name": "stub",
            "tokenizer": str(folder / "tokenizer"),
            "context_window": 4096,
            "endpoints": ["http://127.0.0.1:9/v1"],
            "price": {"input_per_million": 2.0, "output_per_million": 8.0, "currency": "EUR"},
        },
        "sampling": {"samples": 3, "max_tokens": 64, "strategy": "default"},
        "scoring": {"scorers": [{"scorer": "consensus"}]},
        "dataset": {"name": "small", "licence": "apache-2.0"},
        "execution": {"shard_size": 4},
    }
    for name, section in sections.items():
        settings[name] = {**settings.get(name, {}), **section}
    return parse_recipe(settings)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pooled_rows(count: int, length: int = 60) -> list[dict[str, Any]]:
    """Questions with one supporting document each, about `length` characters long."""
    return [
        {
            "id": f"q{number}",
            "question": f"What is number {number}?",
            "documents": [{"title": f"Title {number}", "text": f"Fact {number}: {'word ' * (length // 5)}"}],
            "answers": [str(number)],
        }
        for number in range(count)
    ]


def build_examples(
    recipe: Recipe, tokenizer: Tokenizer, questions: Questions | None = None
) -> Iterator[BuiltQuestion | Drop]:
    """One BuiltQuestion or Drop for every row of `questions` (default: the recipe's), in the source's order.

    Raises InputError for input that cannot be read.
    """
    settings = questions or recipe.questions
    with planning_workers(recipe, settings) as workers:
        pool = counted_pool(recipe, settings, tokenizer, workers)
        yield from build_with(pool, workers, recipe, settings, tokenizer)

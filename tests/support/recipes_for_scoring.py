"""A small recipe for tests of scoring and evaluation, and an embedding model that must not be asked for."""

from typing import Any

from infra.models.embedding.embedder import Embedder
from infra.recipe import Recipe, parse_recipe


def recipe_with(*scorers: dict[str, Any], **sections: Any) -> Recipe:
    """A recipe with these scorers; `sections` replace or add top-level keys."""
    settings = {
        "name": "test",
        "questions": {"source": "questions.jsonl"},
        "policy": {"name": "stub", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:9/v1"]},
        "scoring": {"scorers": list(scorers)},
        "dataset": {"name": "test", "licence": "mit"},
    }
    return parse_recipe(settings | sections)


def no_embedder() -> Embedder:
    """In the place of an embedding model that is not needed."""
    raise AssertionError("the embedding model was asked for")

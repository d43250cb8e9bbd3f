"""A recipe that asks about documents, and a document to ask about."""

from pathlib import Path
from typing import Any

from infra.canonical import text_id
from infra.recipe import Recipe, parse_recipe
from tasks.asking.kind import known_kinds
from tasks.asking.writing import IntendedQuestion, Place

PIER = (
    "The plans of the Tessin pier were drawn by Ada Brolin in 1907. "
    "Brolin had built the lighthouse of Vadum before.\n\n"
    "The lighthouse of Vadum stands on a rock nine kilometres off the coast. Its first keeper was Jonas Wiik.\n\n"
    "The pier was opened on 4 May 1911. It cost 312,000 crowns. Emil Roth, Karin Lund and Per Holm spoke that day.\n"
    "In 1912 a fourth speaker, Anna Berg, was honoured for the speech that she could not hold."
)


def asking_recipe(folder: Path, url: str = "http://127.0.0.1:9/v1", **sections: Any) -> Recipe:
    """A recipe with documents in FOLDER/documents; the judge writes and answers, by terse prompts."""
    model = {"name": "stub", "tokenizer": "microworld", "endpoints": [url]}
    settings: dict[str, Any] = {
        "name": "asking",
        "store": str(folder / "store"),
        "documents": {"source": str(folder / "documents"), "min_characters": 100},
        "policy": model,
        "judge": {**model, "name": "stub-judge", "prompts": "terse", "structured": "never"},
        "sampling": {"strategy": "plain", "samples": 4},
        "dataset": {"name": "asking", "licence": "mit"},
        "training": None,
        "evaluation": None,
    }
    return parse_recipe(settings | sections)


def intended_question(kind: str, text: str = PIER, title: str = "The Tessin pier") -> IntendedQuestion:
    """A question that is to be written about the whole of a text."""
    place = Place(text_id(text), title, 0, text)
    return IntendedQuestion("q0", "c0", known_kinds()[kind], "en", (place,), ((0, 0, len(text)),))

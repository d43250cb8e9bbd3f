"""Before anything is paid for: does the embedding model know the language of a plan's questions and documents?

The tokenizer of the model alone is loaded. It counts the unknown tokens of some questions with the beginnings of their
contexts, by language: SHARDS shards spread over the plan, and QUESTIONS questions spread over each of them. What is
embedded later are answers, and those are in the language of their question, whatever the context is in and whatever
language the row says: so each question is also looked at alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from infra.errors import PrerequisiteError, RecipeError
from infra.models.embedding.local import model_place
from infra.models.embedding.windows import TextWindows, TokenMeter
from infra.models.tokens import load_tokenizer
from infra.recipe import Embedding, Recipe
from infra.store import Store
from tasks.judging.embedding_fit import REMEDY, EmbeddedTexts
from tasks.records.plan import Plan, load_shard
from tasks.scoring import embeds_texts

SHARDS = 8
QUESTIONS = 32
MOST_UNFIT = 0.05  # of the questions may be in a language that the model does not know
_UNFIT = 0.4  # of a question's tokens are unknown then; it is short, and its digits and marks are known
_NAMED = 3  # questions, in the error
_CHARACTERS = 4000  # of a context

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class EmbeddingFit:
    """Counts of a plan's texts by language. `note` says what is wrong, or why there are no counts."""

    model: str
    languages: dict[str, EmbeddedTexts] = field(default_factory=dict)
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values: the model, and the share of unknown tokens by language."""
        unknown = {}
        for language, texts in sorted(self.languages.items()):
            unknown[language] = round(texts.unknown_share, 4)
        return {"model": self.model, "unknown_tokens": unknown}


def embedding_fit(store: Store, plan: Plan, recipe: Recipe) -> EmbeddingFit | None:
    """How well the recipe's embedding model knows the plan's texts; None where nothing is embedded.

    Raises RecipeError where it does not know most of the tokens of a language, or of too many questions.
    """
    settings = recipe.embedding
    if not embeds_texts(recipe):
        return None
    if settings.endpoint is not None and settings.tokenizer is None:
        return EmbeddingFit(settings.model)
    try:
        meter = _meter(settings)
    except PrerequisiteError as error:
        return EmbeddingFit(settings.model, note=f"embedding.model cannot be checked against the questions: {error}")
    except RecipeError as error:
        raise RecipeError(f"embedding: {error}") from error
    languages, unfit = _counted(store, plan, TextWindows(meter, None, "windows"))
    notes = []
    for language, texts in sorted(languages.items()):
        what = f"the questions and documents in {language!r}"
        texts.refuse_unfit(what, settings.model)
        notes.append(texts.warning(what, settings.model))
    looked_at = sum(texts.texts for texts in languages.values())
    if len(unfit) > MOST_UNFIT * looked_at:
        named = ", ".join(unfit[:_NAMED]) + (", ..." if len(unfit) > _NAMED else "")
        raise RecipeError(
            f"{len(unfit)} of {looked_at} questions that were looked at ({named}) are in a language that the embedding "
            f"model {settings.model!r} does not know, and so will be their answers; {REMEDY}"
        )
    return EmbeddingFit(settings.model, languages, "; ".join(filter(None, notes)))


def _meter(settings: Embedding) -> TokenMeter:
    name = settings.tokenizer if settings.endpoint is not None else model_place(settings.model)
    assert name is not None  # of an endpoint without one, nothing is counted
    revision = None if settings.endpoint is not None else settings.revision
    return TokenMeter(load_tokenizer(name, settings.trust_remote_code, revision))


def _counted(store: Store, plan: Plan, windows: TextWindows) -> tuple[dict[str, EmbeddedTexts], list[str]]:
    """Counts by language, and the ids of the questions that are mostly unknown."""
    languages: dict[str, EmbeddedTexts] = {}
    unfit: list[str] = []
    for shard in _spread(plan.shards, SHARDS):
        examples, contexts = load_shard(store, plan, shard.index)
        chosen = _spread(examples, QUESTIONS)
        texts = []
        for example in chosen:
            texts.append(f"{example.question}\n{contexts[example.context_id].text[:_CHARACTERS]}")
        for example, size in zip(chosen, windows.sizes(texts) or [], strict=False):
            languages.setdefault(example.language, EmbeddedTexts()).add(size.to_json())
        for example, size in zip(chosen, windows.sizes([one.question for one in chosen]) or [], strict=False):
            if size.unknown > _UNFIT * size.tokens:
                unfit.append(example.example_id)
    return languages, unfit


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    """At most `count` rows, evenly spaced."""
    if len(rows) <= count:
        return list(rows)
    return [rows[place * len(rows) // count] for place in range(count)]

"""How questions are asked about documents: which kinds, by which model, and what each question has to pass."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from infra.recipe.models import Fraction, Positive, RecipeSection

ModelSection = Literal["policy", "judge", "strong"]  # sections of the recipe that name a model
NO_QUESTION = "documents"  # the source of a recipe's questions until they have been written
_NAME = r"^[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*$"


class Checks(RecipeSection):
    """What a question has to pass before it is published; each that fails is a drop with its reason."""

    self_contained: bool = Field(
        True, description="ask the answerer whether the question can be understood without the document"
    )
    closed_book: Annotated[int, Field(ge=0)] = Field(
        3, description="times that the policy is asked without the document; dropped where half of them are right"
    )
    from_proof: bool = Field(True, description="ask the answerer with the sentences of the proof alone")
    answers: Annotated[int, Field(ge=0)] = Field(
        3, description="times that the answerer is asked with the passages; dropped where half of them differ"
    )
    same_answer: Literal["rules", "judge"] = Field(
        "judge",
        description="whether two answers say the same. rules: by their words, numbers and items; judge: the answerer "
        "decides where the rules see a difference",
    )
    likeness: Fraction = Field(
        0.8, description="a question with this share of its words in common with another of the same answer is dropped"
    )


class Asking(RecipeSection):
    """How questions are asked about the documents."""

    name: str | None = Field(
        None, pattern=_NAME, description="name of the dataset of questions; null: dataset.name with -questions"
    )
    model: ModelSection = Field(
        "judge", description="section of the model that writes questions; policy where there is none"
    )
    answerer: ModelSection | None = Field(
        None, description="section of the model that answers them, as a check; null: that which writes them"
    )
    kinds: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {
            "single_fact": 2,
            "multi_hop": 2,
            "across_documents": 1,
            "list": 1,
            "comparison": 1,
            "number": 1,
            "timeline": 1,
            "summary_of_aspect": 0.5,
            "unanswerable": 0.5,
        },
        description="kinds of questions with their shares, as weights",
    )
    per_document: Positive = Field(4, description="questions that are to be asked about each document")
    min_span_tokens: Positive = Field(256, description="shortest passage that a question is written from, in tokens")
    max_span_tokens: Positive = Field(2048, description="longest passage that a question is written from, in tokens")
    document_tokens: Positive = Field(
        16384, description="a longer document stands in the rows of its questions as the part that they are about"
    )
    temperature: Annotated[float, Field(ge=0)] = Field(0.7, description="temperature of writing and of repeated tries")
    max_tokens: Positive = Field(768, description="longest reply that writes a question, in tokens")
    answer_tokens: Positive = Field(256, description="longest answer of a check, in tokens")
    tries: Annotated[int, Field(ge=0)] = Field(
        4,
        description="times that the policy is asked with the passages; the share that is wrong is the question's "
        "difficulty",
    )
    checks: Checks = Field(Checks(), description="what a question has to pass")
    test_fraction: Fraction = Field(0.1, description="share of documents whose questions go to the test split")

    @model_validator(mode="after")
    def _check_kinds(self) -> "Asking":
        if not sum(self.kinds.values()) > 0:
            raise ValueError("kinds: give one a share above 0")
        if self.min_span_tokens > self.max_span_tokens:
            raise ValueError("min_span_tokens is larger than max_span_tokens")
        if self.max_span_tokens > self.document_tokens:
            raise ValueError("max_span_tokens is larger than document_tokens")
        return self


def asking_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of the settings that decide the bytes of a dataset, those that decide the bytes of one of questions."""
    own = {name: settings[name] for name in ("seed", "asking", "policy", "judge", "strong", "dataset", "shard_size")}
    return {**own, "sampling": {"strategy": settings["sampling"]["strategy"]}}


def with_asked_questions(settings: Any) -> Any:
    """A recipe's settings with what a recipe with documents may leave out: its questions are those that it asks."""
    if not isinstance(settings, Mapping) or settings.get("documents") is None:
        return settings
    complete = {"asking": {}, "questions": {"source": NO_QUESTION}, "scoring": {"scorers": [{"scorer": "consensus"}]}}
    return {**complete, **settings, "asking": settings.get("asking") or {}}

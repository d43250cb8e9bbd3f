"""Which reward model scores, and where it runs: loaded here, or behind an endpoint."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from infra.errors import RecipeError
from infra.models.scores import ROUTES, Route
from infra.recipe import Judge, Model, Positive, Price, Recipe, RecipeSection
from infra.recipe.models import check_endpoint

NAME: Final = "reward_model"  # of the scorer, of its calls, and of its model among those of a run


class RewardModelSettings(RecipeSection):
    """Which model scores, and what fits into it."""

    model: str = Field(
        description="folder or hub name of a transformers sequence classifier, or the model's name at `endpoint`"
    )
    with_context: bool = Field(
        False,
        description="the model reads the whole context before the question, as the policy did: for a reward model that "
        "was trained so (`longmill train reward`). A local one reads the prompt of all answers once, where it can",
    )
    labels: Positive = Field(
        1,
        description="numbers that the model gives for a conversation, one a head; the score is their mean",
    )
    revision: str = Field("main", description="revision of a hub model; part of the plan, and of every ledger key")
    max_tokens: Positive = Field(
        4096, description="longest conversation that is scored, in tokens, within the model's window; null beyond it"
    )
    batch: Positive = Field(8, description="answers to a question per forward pass of a local model")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="number format of a local model")
    endpoint: str | None = Field(
        None, description="base URL ending in /v1 of a vLLM server that runs the model (`--runner pooling`)"
    )
    protocol: Literal["auto", "classify", "pooling", "score"] = Field(
        "auto",
        description="what the endpoint is asked: /classify (a sequence classifier), /pooling (a reward model, also one "
        "that scores every token), /score (a cross-encoder); auto takes the first of these that gives one score",
    )
    combine: Literal["last", "mean", "min"] = Field(
        "last",
        description="the score of a conversation whose every token has one: that of the last, the mean, or the lowest",
    )
    api_key_env: str = Field("OPENAI_API_KEY", description="environment variable that holds the endpoint's key")
    price: Price = Field(Price(), description="price of the endpoint's tokens")

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str | None) -> str | None:
        if endpoint is not None:
            check_endpoint(endpoint)
        return endpoint

    @model_validator(mode="after")
    def _check_protocol(self) -> "RewardModelSettings":
        if self.with_context and self.protocol == "score":
            raise ValueError("protocol: score compares two texts; with_context needs classify, pooling or auto")
        return self

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes that may be asked, the first to try first."""
        if self.protocol != "auto":
            return (self.protocol,)
        return tuple(route for route in ROUTES if route != "score") if self.with_context else ROUTES


def reward_settings(recipe: Recipe) -> RewardModelSettings | None:
    """The settings of the recipe's reward model; None where it has none behind an endpoint. Raises RecipeError."""
    for scorer in recipe.scoring.scorers:
        if scorer.get("scorer") == NAME:
            own = {key: value for key, value in scorer.items() if key not in ("scorer", "weight")}
            try:
                settings = RewardModelSettings.model_validate(own)
            except ValidationError as error:
                raise RecipeError(f"scoring.scorers: {NAME}: {error.errors()[0]['msg']}") from error
            return settings if settings.endpoint else None
    return None


def reward_judge(recipe: Recipe) -> Judge:
    """The reward model behind an endpoint as a model that is asked: once for each answer. Raises RecipeError."""
    settings = reward_settings(recipe)
    if settings is None or settings.endpoint is None:
        raise RecipeError(f"scoring.scorers: {NAME} has no endpoint to ask")
    return Judge(
        name=settings.model,
        revision=settings.revision,
        tokenizer="",  # the server's own
        endpoints=(settings.endpoint,),
        api_key_env=settings.api_key_env,
        price=settings.price,
        replies=1,
        structured="never",
    )


def called_models(recipe: Recipe) -> Mapping[str, Model]:
    """The models that a run calls, by their names in its report: the recipe's sections, and the reward model."""
    models: dict[str, Any] = dict(recipe.models())
    if reward_settings(recipe) is not None:
        models[NAME] = reward_judge(recipe)
    return models

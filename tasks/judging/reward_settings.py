"""Which reward model scores, and where it runs: loaded here, or behind an endpoint."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, model_validator

from infra.errors import RecipeError
from infra.models.scores import ROUTES, Route
from infra.recipe import Judge, Model, Positive, Recipe
from tasks.judging.classifier_settings import ClassifierSettings
from tasks.judging.verifier_settings import VERIFIER, asked_verifier, verifier_judge

NAME: Final = "reward_model"  # of the scorer, of its calls, and of its model among those of a run


class RewardModelSettings(ClassifierSettings):
    """Which model scores, and what fits into it."""

    with_context: bool = Field(
        False,
        description="the model reads the whole context before the question, as the policy did: for a reward model that "
        "was trained so (`longmill train reward`). A local one reads the prompt of all answers once, where it can",
    )
    labels: Positive = Field(
        1,
        description="numbers that the model gives for a conversation, one a head; the score is their mean",
    )
    max_tokens: Positive = Field(
        4096, description="longest conversation that is scored, in tokens, within the model's window; null beyond it"
    )
    batch: Positive = Field(8, description="answers to a question per forward pass of a local model")
    protocol: Literal["auto", "classify", "pooling", "score"] = Field(
        "auto",
        description="what the endpoint is asked: /classify (a sequence classifier), /pooling (a reward model, also one "
        "that scores every token), /score (a cross-encoder); auto takes the first of these that gives one score",
    )
    combine: Literal["last", "mean", "min"] = Field(
        "last",
        description="the score of a conversation whose every token has one: that of the last, the mean, or the lowest",
    )

    @model_validator(mode="after")
    def _check_protocol(self) -> "RewardModelSettings":
        if self.with_context and self.protocol == "score":
            raise ValueError("protocol: score compares two texts; with_context needs classify, pooling or auto")
        return self

    @property
    def labels_in_words(self) -> str:
        """How many numbers the model has to give, for messages."""
        return "one" if self.labels == 1 else f"the {self.labels} of {NAME}.labels"

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
    if settings is None:
        raise RecipeError(f"scoring.scorers: {NAME} has no endpoint to ask")
    return settings.as_judge()


def called_models(recipe: Recipe) -> Mapping[str, Model]:
    """The models that a run calls, by their names in its report: the recipe's sections, reward model and verifier."""
    models: dict[str, Any] = dict(recipe.models())
    if reward_settings(recipe) is not None:
        models[NAME] = reward_judge(recipe)
    if asked_verifier(recipe) is not None:
        models[VERIFIER] = verifier_judge(recipe)
    return models

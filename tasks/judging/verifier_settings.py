"""Which classifier gives verdicts on facts in the judge's place, and how its numbers become verdicts.

The settings are the section `verifier` of the scorer faithfulness.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from infra.errors import RecipeError
from infra.recipe import Judge, Positive, Recipe
from infra.recipe.models import Fraction
from tasks.judging.classifier_settings import ClassifierSettings
from tasks.judging.refusals import FACTS_SCORER

VERIFIER: Final = "verifier"  # the key of the scorer, and the name of the model among those of a run
VERIFY: Final = "verify"  # the kind of its calls
KEY: Final = f"{FACTS_SCORER}.{VERIFIER}"  # in messages
PASSAGES, STATEMENT = "{passages}", "{statement}"  # in `template`
_MOST_LOGIT = 30.0
# Names of labels that mean support in models for entailment or for factual consistency.
_SUPPORTING = ("entailment", "entailed", "supported", "supports", "consistent", "faithful")
# What decides a statement's number.
NUMBER_KEYS = ("model", "revision", "dtype", "max_tokens", "labels", "template")


class VerifierSettings(ClassifierSettings):
    """A sequence classifier that says whether passages support a statement: for entailment (NLI, three labels), or for
    factual consistency (one or two)."""

    max_tokens: Positive = Field(
        2048,
        description="longest input, in tokens, within the model's window; longer passages are read in windows that "
        "overlap, and the best one counts",
    )
    batch: Positive = Field(16, description="statements per forward pass of a local model")
    labels: dict[str, Fraction] | None = Field(
        None,
        description="what each label says of support, from 0 to 1, by its name or its number: {entailment: 1}; labels "
        "that are left out say 0. null: by the names of a local model's labels, or the model's one number",
    )
    template: str | None = Field(
        None,
        description="the input as one text with {passages} and {statement} in it, for models that want one; null: the "
        "tokenizer's pair of texts. At an endpoint a text is asked for by /classify, a pair by /score",
    )
    tokenizer: str | None = Field(
        None,
        description="folder or hub name of the tokenizer that measures windows for an endpoint; null: 2 bytes a token",
    )
    trust_remote_code: bool = Field(False, description="let the model's repository run code here")
    calibration: str | None = Field(
        None,
        description="temperature and thresholds: the file in the store that `longmill agreement DATASET --verifier "
        "RECIPE` has written; its name is the hash of its content, so that it is part of the plan",
    )
    ask_judge_within: Fraction = Field(
        0.2, description="the judge gives the verdict where the probability of support is so near to a threshold"
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _names_are_texts(cls, labels: Any) -> Any:
        return {str(name): value for name, value in labels.items()} if isinstance(labels, dict) else labels

    @model_validator(mode="after")
    def _check_labels(self) -> "VerifierSettings":
        if self.labels is not None and not any(self.labels.values()):
            raise ValueError("labels: none of them says that a statement is supported; give one a value above 0")
        if self.template is not None and not (PASSAGES in self.template and STATEMENT in self.template):
            raise ValueError(f"template: it has to hold {PASSAGES} and {STATEMENT}")
        return self

    def label_values(self, names: Sequence[str]) -> list[float]:
        """What each of the model's labels says of support, in the model's order. Raises RecipeError."""
        values = []
        for place, name in enumerate(names):
            if self.labels is None:
                values.append(1.0 if name.lower() in _SUPPORTING else 0.0)
            else:
                values.append(self.labels.get(name, self.labels.get(str(place), 0.0)))
        if max(values) == min(values):
            raise RecipeError(
                f"{KEY}.labels: {self.model!r} has the labels {', '.join(names)}; say which of them mean support, such "
                f"as {{{names[0]}: 1}}"
            )
        return values

    def support_logit(self, logits: Sequence[float], names: Sequence[str]) -> float | None:
        """The log-odds that a statement is supported, from the model's logits; None where they are no numbers."""
        if not np.all(np.isfinite(logits)):
            return None
        if len(logits) == 1:
            logit = logits[0]
        else:
            values = np.array(self.label_values(names))
            scores = np.array(logits, np.float64)
            with np.errstate(divide="ignore"):
                support = np.logaddexp.reduce(scores + np.log(values))
                rest = np.logaddexp.reduce(scores + np.log(1 - values))
            logit = float(support - rest)
        return round(max(-_MOST_LOGIT, min(_MOST_LOGIT, logit)), 4)

    def identity(self) -> dict[str, Any]:
        """What a statement's number depends on, JSON-ready."""
        return self.model_dump(mode="json", include=set(NUMBER_KEYS))


def verifier_settings(recipe: Recipe) -> VerifierSettings | None:
    """The recipe's verifier; None where it has none. Raises RecipeError."""
    for scorer in recipe.scoring.scorers:
        own = scorer.get(VERIFIER)
        if scorer.get("scorer") == FACTS_SCORER and own is not None:
            try:
                return VerifierSettings.model_validate(own)
            except ValidationError as error:
                raise RecipeError(f"scoring.scorers: {KEY}: {error.errors()[0]['msg']}") from error
    return None


def asked_verifier(recipe: Recipe) -> VerifierSettings | None:
    """The recipe's verifier where it is behind an endpoint. Raises RecipeError."""
    settings = verifier_settings(recipe)
    return settings if settings is not None and settings.endpoint is not None else None


def verifier_judge(recipe: Recipe) -> Judge:
    """The verifier behind an endpoint as a model that is asked: once for each window. Raises RecipeError."""
    settings = asked_verifier(recipe)
    if settings is None:
        raise RecipeError(f"scoring.scorers: {KEY} has no endpoint to ask")
    return settings.as_judge()

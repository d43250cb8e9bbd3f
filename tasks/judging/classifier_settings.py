"""Which sequence classifier reads texts, and where it runs: loaded here, or behind an endpoint.

The reward model (`reward_settings.py`) and the verifier of facts (`verifier_settings.py`) are such classifiers.
"""

from typing import Literal

from pydantic import Field, field_validator

from infra.recipe import Judge, Positive, Price, RecipeSection
from infra.recipe.models import check_endpoint


class ClassifierSettings(RecipeSection):
    """A model, and where it runs."""

    model: str = Field(
        description="folder or hub name of a transformers sequence classifier, or the model's name at `endpoint`"
    )
    revision: str = Field("main", description="revision of a hub model; part of the plan, and of every ledger key")
    max_tokens: Positive = Field(4096, description="longest input, in tokens, within the model's window")
    batch: Positive = Field(8, description="inputs per forward pass of a local model")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="number format of a local model")
    endpoint: str | None = Field(
        None, description="base URL ending in /v1 of a vLLM server that runs the model (`--runner pooling`)"
    )
    api_key_env: str = Field("OPENAI_API_KEY", description="environment variable that holds the endpoint's key")
    price: Price = Field(Price(), description="price of the endpoint's tokens")

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str | None) -> str | None:
        if endpoint is not None:
            check_endpoint(endpoint)
        return endpoint

    def as_judge(self) -> Judge:
        """The model behind its endpoint as one that is asked, once for each input."""
        assert self.endpoint is not None  # the caller has looked
        return Judge(
            name=self.model,
            revision=self.revision,
            tokenizer="",  # the server's own
            endpoints=(self.endpoint,),
            api_key_env=self.api_key_env,
            price=self.price,
            replies=1,
            structured="never",
        )

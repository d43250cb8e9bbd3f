"""A recipe: every setting of a run, typed, documented and checked before any work starts.

A YAML file is read into frozen pydantic models. Unknown keys are errors. `Recipe.identity` has the settings that
decide the bytes of the dataset. Prices, endpoints and limits are not part of it, so another server or a larger
budget neither changes the plan nor pays for a call again. A scorer checks its own settings, in its own file; here
they are mappings.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from infra.errors import RecipeError
from infra.recipe.asking import Asking, asking_settings, with_asked_questions
from infra.recipe.cascade import Cascade
from infra.recipe.changes import apply_change
from infra.recipe.documents import Documents
from infra.recipe.fields import QuestionFields
from infra.recipe.identity import (
    LATER_KEYS,
    LATER_KEYS_OF_SCORERS,
    MODELS,
    PLACE_KEYS,
    PLACE_KEYS_OF_SCORERS,
    WITHOUT_EFFECT,
    drop_request_defaults,
)
from infra.recipe.models import Embedding, Fraction, Judge, Model, Positive, RecipeSection, require_one_currency
from infra.recipe.public import urls_with_user
from infra.recipe.source import recipe_text
from infra.recipe.training import RewardTraining, Training
from infra.recipe.yaml_text import RepeatedKeyError, read_yaml
from infra.urls import without_user

Language = Literal["en", "zh"]
DEFAULT_STORE = "mill"
NAME = r"^[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*$"  # of a folder in the store: `.` and `..` are none


class Questions(RecipeSection):
    """Where the questions come from."""

    source: str = Field(description="JSONL or Parquet file, `datasets` folder or hub name; a path or any fsspec URL")
    format: str = Field("native", description="how rows are read: a name that `longmill formats` lists")
    fields: QuestionFields | None = Field(
        None, description="paths of a row's parts, in place of a format; `longmill formats FILE` suggests some"
    )
    subset: str | None = Field(None, description="configuration of a hub dataset")
    split: str = Field("train", description="split of a `datasets` folder or hub dataset")
    limit: Positive | None = Field(None, description="read at most so many rows, from the first")
    language: Language = Field("en", description="language of rows that do not state their own")

    @model_validator(mode="after")
    def _check_format(self) -> "Questions":
        if self.fields is not None and self.format != "native":
            raise ValueError("fields: the rows are read by these paths, not as a format; leave `format` out")
        return self


class Contexts(RecipeSection):
    """How a question gets its long context."""

    build: str = Field(
        "given",
        description="a file of tasks/contexts. given: the row holds its context; pooled: supporting documents + "
        "distractors; document: the question's whole document and its neighbours; keychain: as pooled, the question "
        "at the end of a chain of keys (LoongRL); history: chat messages, which stay messages",
    )
    options: dict[str, Any] = Field({}, description="the builder's own settings (docs/documents.md)")
    pool: str | None = Field(
        None, description="JSONL or Parquet of documents {title, text}; without it, the questions' own documents"
    )
    min_tokens: Positive = Field(4096, description="pooled: smallest target length, in policy tokens")
    max_tokens: Positive = Field(31744, description="pooled: largest target length, in policy tokens")
    step_tokens: Positive = Field(1024, description="pooled: targets are multiples of this many tokens")
    articles: Literal["never", "prefer", "require"] = Field(
        "never",
        description="pooled: what becomes of a row's own documents when `pool` holds whole articles. never: they stay "
        "as they are; prefer: the article of the same title replaces each that has one; require: a question with a "
        "supporting document that has none is dropped, and its distractors without one are left out (SeaLong)",
    )
    passages: str = Field(
        "numbered",
        description="how a document is written: tasks/prompts/LANGUAGE/passage-NAME.txt. numbered: number and title; "
        "untitled: the number alone (SeaLong); titled: the title alone",
    )

    tools: Literal["auto", "text"] = Field(
        "auto",
        description="history: tool calls and results. auto: messages of the policy's chat template where it has a "
        "place for them, with the tools that there were; else text. text: always text of their turn",
    )

    @model_validator(mode="after")
    def _check_articles(self) -> "Contexts":
        if self.articles != "never" and (self.build != "pooled" or self.pool is None):
            raise ValueError(
                f"articles: {self.articles} takes articles from `pool`, with build: pooled; name a file of whole "
                "articles {title, text} there, or set articles to never"
            )
        return self

    @model_validator(mode="after")
    def _check_lengths(self) -> "Contexts":
        if self.min_tokens > self.max_tokens:
            raise ValueError("min_tokens is larger than max_tokens")
        if self.step_tokens > self.max_tokens:
            raise ValueError("step_tokens is larger than max_tokens: no target length is left")
        return self


class Sampling(RecipeSection):
    """How answers are drawn."""

    strategy: str = Field("plan_and_solve", description="prompt: tasks/prompts/LANGUAGE/sample-STRATEGY.txt")
    samples: Positive = Field(32, description="answers per question (N)")
    temperature: Annotated[float, Field(ge=0)] = Field(0.7, description="sampling temperature")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="nucleus sampling bound")
    max_tokens: Positive = Field(1024, description="longest answer, in tokens")
    greedy: bool = Field(False, description="draw a greedy answer too, for the report alone")
    logprobs: bool = Field(
        False,
        description="ask the server for the log-probability of each token of a sample: for the scorer `likelihood`",
    )
    context: str = Field(
        "full",
        description="what a sample sees of the context: a file of tasks/samplers. full: all of it; evidence: some "
        "samples the parts that hold the answer alone (LongPO); bandit: chunks, by the rewards of the samples before "
        "(LongMab-PO). Pairs are published with the whole context",
    )
    options: dict[str, Any] = Field({}, description="the sampler's own settings (docs/samplers.md)")
    stop: dict[str, Any] | None = Field(
        None,
        description="fewer than `samples` for a question that is decided earlier: {rule: NAME, ...its settings}, a "
        "file of tasks/stopping (docs/samplers.md); null: all of them, always",
    )


class Scoring(RecipeSection):
    """Which scorers judge the answers."""

    scorers: tuple[dict[str, Any], ...] = Field(
        description="each {scorer: NAME, weight: W, ...its own settings}; the reward is the weighted mean"
    )
    prune: bool = Field(
        True,
        description="stop judging answers that can no longer be chosen or rejected; the pairs stay the same. It takes "
        "best_vs_worst with one pair a question: where there may be more, every answer counts",
    )
    cascade: Cascade | None = Field(None, description="scorers in stages, so that the judge is asked less")

    def in_full(self) -> "Scoring":
        """The same where every scorer judges every answer."""
        return self.model_copy(update={"prune": False, "cascade": None})


MAX_PAIRS = 64  # of a question; every pair is a row with the whole prompt, and the rows of a shard fit into memory


class Pairing(RecipeSection):
    """How chosen and rejected answers are picked."""

    rule: str = Field(
        "best_vs_lower_half",
        description="best_vs_lower_half (SeaLong), best_vs_worst (LongReward), short_over_full (LongPO), contrast "
        "(`strong` over policy); to compare these with: random_pair, and oracle, which looks at the references",
    )
    min_margin: Annotated[float, Field(ge=0)] = Field(0.0, description="smallest difference in reward")
    min_scored: Annotated[int, Field(ge=2)] = Field(2, description="answers with a score that a question needs")
    max_likeness: Fraction = Field(
        0.98, description="pairs whose texts are more alike than this (share of words in common) are dropped"
    )
    cut_off_as_chosen: bool = Field(False, description="let an answer that hit max_tokens be chosen")
    pairs_per_question: Annotated[int, Field(ge=1, le=MAX_PAIRS)] = Field(
        1,
        description="most pairs of one question, each a row with the whole prompt. The first is the pair that 1 gives; "
        "more follow, of answers that are in no pair yet before others, while margin and likeness allow. "
        "best_vs_worst: any better answer over any worse one, the widest margin first; best_vs_lower_half: an answer "
        "of the upper half over one of the lower, in the order drawn; contrast: the strong answer over each other",
    )


class Dataset(RecipeSection):
    """What is published."""

    name: str = Field(description="name of the dataset; letters, digits, '.', '_' and '-'", pattern=NAME)
    licence: str = Field(description="licence id for the card, as you state it; Longmill never invents one")
    test_fraction: Fraction = Field(0.1, description="share of contexts that go to the test split")
    description: str = Field("", description="a paragraph for the card")


class Budget(RecipeSection):
    """Limits on what a plan may cost in all; work stops cleanly at the first that is reached."""

    calls: Positive | None = Field(None, description="most model calls")
    tokens: Positive | None = Field(None, description="most prompt and output tokens")
    money: Annotated[float, Field(gt=0)] | None = Field(None, description="most money, in the prices' currency")


class Execution(RecipeSection):
    """How the work runs; none of it changes the result."""

    shard_size: Positive = Field(64, description="questions per shard (this one is part of the plan)")
    batch_calls: Annotated[int, Field(ge=1, le=4096)] = Field(512, description="most model calls per Prefect task")
    concurrency: Positive = Field(
        64,
        description="most calls in flight, over all endpoints and all workers of a build; for each of a served model's "
        "`replicas`",
    )
    contexts_in_flight: Positive = Field(
        16, description="most contexts whose calls are in flight at once; for each of a served model's `replicas`"
    )
    planning_processes: Positive | None = Field(
        None, description="processes that build contexts and count tokens while planning; null: one for each core"
    )
    planning_deployment: str | None = Field(
        None,
        description="have ranges of the source built by runs of this deployment (flow/deployment), as many at once as "
        "its pool has workers; the source must be a URL that they reach. null: on this machine",
    )
    shards_in_flight: Positive = Field(2, description="shards that a process works on at once")
    timeout_s: Positive = Field(600, description="seconds that one call may take")
    grace_s: Annotated[float, Field(ge=0)] = Field(
        60,
        description="seconds that calls in flight get to be recorded when the run is stopped by Ctrl-C or SIGTERM; a "
        "second signal ends it at once, and so does the platform when its own time is over",
    )
    wait_s: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="seconds that a build waits while another one works on the same plan; null: until that one ends",
    )
    task_retries: Annotated[int, Field(ge=0)] = Field(2, description="times that Prefect runs a failed task again")
    task_retry_delay_s: Annotated[float, Field(ge=0)] = Field(10, description="seconds before it does")
    shard_deployment: str | None = Field(
        None,
        description="run shards as this deployment (flow/deployment), as many runs at once as its pool has workers; "
        "null: in this process. A worker counts shards that are finished when its own begins into the budget: shards "
        "that run at once may exceed it",
    )
    shards_per_run: Positive = Field(
        8, description="most shards of one run of `shard_deployment`, whose start takes seconds; fewer towards the end"
    )
    attempts: Positive = Field(6, description="tries of one call when the server fails or is busy")
    drop_failed: bool = Field(
        False,
        description="give a call up that failed all its attempts, at once and not only where others succeed meanwhile: "
        "its question may be dropped (`longmill rerun PLAN --failed --drop-failed`)",
    )
    judge_trial: Annotated[int, Field(ge=0)] = Field(
        32,
        description="first replies of the judge, of each kind, that try it: when half of them cannot be used, the run "
        "stops before more is spent; 0: it never does",
    )
    max_drop_share: Fraction = Field(
        0.2,
        description="share of a plan's questions that may give no pair for a fault (docs/operate.md lists them); "
        "with more nothing is published and the command fails",
    )
    max_shard_drop_share: Fraction = Field(
        0.5, description="the same share of one shard of 8 questions or more: with more the run stops there"
    )
    warn_drop_share: Fraction = Field(
        0.05, description="above this share a dataset is published with a warning, and the command ends with status 3"
    )


class Evaluation(RecipeSection):
    """How models are compared on questions that were not trained on."""

    questions: Questions | None = Field(None, description="held-out questions; without it, the dataset's test split")
    contexts: Contexts | None = Field(None, description="how they get their contexts; without it, as in `contexts`")
    suites: tuple[str | dict[str, Any], ...] = Field(
        ("qa",),
        min_length=1,
        description="what is measured: files of tasks/evaluation/suites by name, or {name: NAME, ...settings}; "
        "one with `questions` of its own asks these (docs/evaluate.md). `suite: NAME` means one alone",
    )
    samples: Annotated[int, Field(ge=0)] = Field(0, description="samples for MBR@N beside greedy; 0 leaves it out")
    max_tokens: Positive = Field(512, description="longest answer, in tokens")
    buckets: tuple[int, ...] = Field(
        (4096, 8192, 16384, 32768, 65536), description="upper ends of the prompt-length buckets, in tokens"
    )
    resamples: Positive = Field(2000, description="bootstrap resamples for the intervals")
    allow_overlap: bool = Field(
        False, description="evaluate on questions that were trained on too, and say so, instead of stopping"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_suite(cls, settings: Any) -> Any:
        """`suite: NAME`, as recipes before `suites` have it."""
        if not isinstance(settings, dict) or "suite" not in settings:
            return settings
        if "suites" in settings:
            raise ValueError("suite and suites: give one of them; `suites` is a list")
        return {key: value for key, value in settings.items() if key != "suite"} | {"suites": [settings["suite"]]}


class Recipe(RecipeSection):
    """All settings of a run."""

    name: str = Field(description="name of the recipe", pattern=NAME)
    store: str = Field(DEFAULT_STORE, description="folder or fsspec URL (s3://bucket/prefix) that keeps everything")
    seed: int = Field(0, description="seed of every random choice")
    documents: Documents | None = Field(None, description="documents that questions are asked about")
    asking: Asking | None = Field(None, description="how questions are asked about the documents")
    questions: Questions = Field(description="where the questions come from")
    contexts: Contexts = Field(Contexts(), description="how a question gets its context")
    policy: Model = Field(description="the model that answers, and that is improved")
    judge: Judge | None = Field(None, description="the model that judges answers; consensus alone needs none")
    strong: Model | None = Field(
        None, description="a stronger model, asked once a question; the pairing rule `contrast` chooses its answer"
    )
    sampling: Sampling = Field(Sampling(), description="how answers are drawn")
    scoring: Scoring = Field(description="which scorers judge the answers")
    embedding: Embedding = Field(Embedding(), description="the sentence-embedding model")
    pairing: Pairing = Field(Pairing(), description="how pairs are picked")
    dataset: Dataset = Field(description="what is published")
    budget: Budget = Field(Budget(), description="most that a plan may cost")
    execution: Execution = Field(Execution(), description="how the work runs")
    training: Training | None = Field(Training(), description="training on the dataset; null publishes only")
    reward_training: RewardTraining = Field(
        RewardTraining(), description="`longmill train reward`: a reward model that learns from all judged answers"
    )
    evaluation: Evaluation | None = Field(Evaluation(), description="comparison before and after; null skips it")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, settings: Any) -> Any:
        return with_asked_questions(settings)

    @model_validator(mode="after")
    def _check_asking(self) -> "Recipe":
        if self.asking is not None and self.documents is None:
            raise ValueError("asking: there are no `documents` to ask about; add that section")
        return self

    @model_validator(mode="after")
    def _check_strong(self) -> "Recipe":
        if self.strong is not None and not self.strong.endpoints:
            raise ValueError("strong: give endpoints of a server that runs; none is started for it")
        if self.pairing.rule == "contrast" and self.strong is None:
            raise ValueError("pairing.rule: contrast needs the `strong` section: the model whose answer is chosen")
        return self

    @model_validator(mode="after")
    def _check_currency(self) -> "Recipe":
        require_one_currency(policy=self.policy, judge=self.judge, strong=self.strong, embedding=self.embedding)
        return self

    def sends_batches(self) -> bool:
        """Whether a model is asked by batches, so that as many calls as possible should come together."""
        return any(model.mode == "batch" for model in self.models().values())

    def models(self) -> dict[str, Model]:
        """The language models of the recipe, by their section."""
        models: dict[str, Model] = {"policy": self.policy}
        if self.judge is not None:
            models["judge"] = self.judge
        if self.strong is not None:
            models["strong"] = self.strong
        return models

    def identity(self) -> dict[str, Any]:
        """The settings that decide the bytes of the dataset, as JSON values. The id of a plan depends on it."""
        settings = self.model_dump(mode="json", exclude=WITHOUT_EFFECT)
        if self.asking is None:
            del settings["asking"]
        # A plan names its questions and contexts by content, so the places that they come from do not matter.
        for section, keys in PLACE_KEYS.items():
            if settings[section] is not None:
                for key in keys:
                    del settings[section][key]
        settings["shard_size"] = self.execution.shard_size
        for scorer in settings["scoring"]["scorers"]:
            for model_settings in (scorer, scorer.get("verifier") or {}):
                for key in PLACE_KEYS_OF_SCORERS:
                    model_settings.pop(key, None)
            for key, earlier in LATER_KEYS_OF_SCORERS.items():
                if key in scorer and scorer[key] == earlier:
                    del scorer[key]
        if settings["embedding"]["long_texts"] == "cut":  # as before the key; a plan's rules tell windows from it
            settings["embedding"]["long_texts"] = "windows"
        for section, defaults in LATER_KEYS.items():
            later: Any = settings
            for name in section.split("."):
                later = later and later[name]
            for key, default in defaults.items():
                if later is not None and later[key] == default:
                    del later[key]
        for section in MODELS:
            if settings[section] is not None:
                drop_request_defaults(settings[section])
        return settings if self.asking is None else asking_settings(settings)


def load_recipe(path: str | Path, changes: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe, from a file or any fsspec URL, and apply `changes` like "sampling.samples=8".

    Raises RecipeError naming the file, the key and what is wrong with it.
    """
    source = without_user(str(path))
    try:
        settings = read_yaml(recipe_text(str(path)))
    except RepeatedKeyError as error:
        raise RecipeError(f"{source}: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{source}: not valid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise RecipeError(f"{source}: a recipe is a mapping of settings; this file holds {type(settings).__name__}")
    return parse_recipe(settings, source, changes)


def parse_recipe(settings: dict[str, Any], source: str = "recipe", changes: tuple[str, ...] = ()) -> Recipe:
    """Apply `changes` and check the settings. Raises RecipeError that names every wrong key."""
    for change in changes:
        apply_change(settings, change)
    if keys := sorted(set(urls_with_user(settings))):
        raise RecipeError(
            f"{source}: {', '.join(keys)}: a URL has a password in it, and recipes are stored; keys belong in the "
            "environment (api_key_env, headers)"
        )
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        messages = []
        for fault in error.errors(include_url=False):
            key = ".".join(map(str, fault["loc"])) or "(whole recipe)"
            messages.append(f"{key}: {_fault_message(fault['type'], fault['input'], fault['msg'])}")
        raise RecipeError(f"{source}: " + "; ".join(messages)) from None  # pydantic's error shows all values


def _fault_message(kind: str, value: Any, message: str) -> str:
    """What is wrong with a value, and how to write it; pydantic's own words where they say it."""
    if kind == "extra_forbidden":
        return "no such key"
    if kind == "tuple_type" and isinstance(value, str):
        return f"a text in place of a list; write [{'...' if '@' in value else value}]"
    if kind == "tuple_type" and isinstance(value, dict):
        return "a mapping in place of a list; write each entry with a - before it"
    if kind == "string_type" and not isinstance(value, (dict, list)):
        return f"{value} is no text; write it in quotes"
    if kind == "string_pattern_mismatch":
        return f"{value!r} is no name; a name has letters (A-Z, a-z), digits, '.', '_' and '-', and not dots alone"
    return message.removeprefix("Value error, ")

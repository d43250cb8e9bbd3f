"""The recipe that `longmill init` writes: a commented YAML text; and what its endpoints say when they are tried."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from infra.errors import LongmillError
from infra.models.api_key import read_api_key
from infra.models.served_window import read_models
from infra.recipe import DEFAULT_STORE, Recipe

METHODS = ("sealong", "longreward")
DEFAULT_WINDOW = 32768  # tokens, where the endpoint does not say how many it takes
_ANSWER_TOKENS = 1024
_LINE = 44  # where the comments of a line begin


@dataclass(slots=True)
class ModelChoice:
    """A model of the recipe. Without an endpoint Longmill starts a server for it."""

    name: str
    endpoint: str = ""
    window: int = DEFAULT_WINDOW
    key_env: str = ""  # the variable that holds the key; empty: the recipe's default


@dataclass(slots=True)
class Choices:
    """The answers to the six questions."""

    documents: str  # one of these two is empty
    questions: str
    policy: ModelChoice
    judge: ModelChoice | None
    method: str
    store: str = DEFAULT_STORE
    train: bool = False
    reading: Mapping[str, Any] = field(default_factory=dict)  # keys of `questions` that read the file
    build_contexts: str = "given"

    @property
    def name(self) -> str:
        """Of the recipe and the dataset, from the file or folder."""
        stem = Path((self.documents or self.questions).rstrip("/")).name.partition(".")[0]
        return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-") or "my-first"


def list_models(endpoint: str, key_env: str) -> list[tuple[str, int | None]]:
    """(name, window in tokens where it says it) of the models of an endpoint.

    Raises OSError where it does not answer, ValueError for a reply that is no list of models.
    """
    body = read_models(endpoint, read_api_key(key_env or "OPENAI_API_KEY"))
    try:
        models = []
        for model in json.loads(body)["data"]:
            window = model.get("max_model_len")
            models.append((str(model["id"]), window if isinstance(window, int) else None))
        return models
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its reply is no list of models ({error!r})") from error


def recipe_text(choices: Choices) -> str:
    """The recipe as YAML, each line with what it means."""
    return "\n".join([*_head(choices), *_source(choices), *_models(choices), *_method(choices), *_end(choices)]) + "\n"


def try_endpoints(recipe: Recipe, choices: Choices) -> Iterator[tuple[str, str]]:
    """(what was called, what came back) of one small call to each model that has an endpoint."""
    from tasks.model_trial import trial_reply

    for section, model in (("policy", choices.policy), ("judge", choices.judge)):
        if model is None or not model.endpoint:
            continue
        called = f"{section}: {model.name} at {model.endpoint}"
        try:
            reply, settled = trial_reply(recipe, section)
        except LongmillError as error:
            yield called, f"no reply: {error}"
            continue
        text = " ".join(reply.split())
        yield called, "; ".join([f"replied {text[:60]!r}", *settled])


def _head(choices: Choices) -> Iterator[str]:
    yield "# Written by `longmill init`. `longmill keys SECTION` explains a section; docs/recipes.md has all keys."
    yield _line(f"name: {choices.name}", "")
    yield _line(f"store: {_value(choices.store)}", "a folder, or s3://bucket/prefix")
    yield ""


def _source(choices: Choices) -> Iterator[str]:
    if choices.documents:
        yield _line("documents:", "`longmill documents FOLDER` says what is read and what is dropped")
        yield _line(f"  source: {_value(choices.documents)}", "a folder, a pattern, a file or a URL")
        yield _line("asking:", "questions are written about them first, and checked")
        yield _line("  per_document: 4", "docs/ask.md: the kinds of questions, and the checks")
        longest = max(1024, (choices.policy.window - 2 * _ANSWER_TOKENS) // 1024 * 1024)
        yield _line("contexts:", "")
        yield _line("  build: pooled", "a question's documents between others, up to max_tokens")
        yield _line(f"  min_tokens: {min(4096, longest)}", "")
        yield _line(f"  max_tokens: {longest}", "with the answer it must fit into context_window")
    else:
        yield _line("questions:", "`longmill formats FILE` says how a file is read")
        yield _line(f"  source: {_value(choices.questions)}", "a file, a folder, a URL or a name on the hub")
        for key, value in choices.reading.items():
            yield _line(f"  {key}: {_value(value)}", "")
        yield _line("contexts:", "")
        yield _line(f"  build: {choices.build_contexts}", "given: a row has its context; pooled: made of documents")
    yield ""


def _models(choices: Choices) -> Iterator[str]:
    yield _line("policy:", "the model that answers the questions, and learns")
    yield from _model(choices.policy)
    if choices.judge is not None:
        tasks = ["writes and checks questions"] if choices.documents else []
        tasks += ["rates the answers"] if choices.method == "longreward" else []
        yield _line("judge:", f"a stronger model, which {' and '.join(tasks)}")
        yield from _model(choices.judge)
    yield ""


def _model(model: ModelChoice) -> Iterator[str]:
    yield _line(f"  name: {_value(model.name)}", "")
    yield _line(f"  tokenizer: {_value(model.name)}", "a folder or a name on the hub: its tokens measure contexts")
    yield _line(f"  context_window: {model.window}", "tokens of prompt and answer together")
    if model.endpoint:
        yield _line(f"  endpoints: [{_value(model.endpoint)}]", "several share the calls")
        if model.key_env:
            yield _line(f"  api_key_env: {_value(model.key_env)}", "the variable that holds the key, not the key")
    else:
        yield _line(f"  serve: {{model_path: {_value(model.name)}}}", "vLLM is started for the run, on this machine")
    yield "  # price: {input_per_million: 0.05, output_per_million: 0.20}   # then a plan says what it costs"


def _method(choices: Choices) -> Iterator[str]:
    yield _line("sampling:", "")
    yield _line("  samples: 8", "answers to each question; raising it later pays for the new ones alone")
    yield _line("  temperature: 1.0", "")
    yield _line(f"  max_tokens: {_ANSWER_TOKENS}", "of an answer")
    yield _line("scoring:", "")
    if choices.method == "sealong":
        yield _line("  scorers:", "SeaLong: answers that agree with the others are likely to be right")
        yield "    - {scorer: consensus, similarity: embedding}"
    else:
        yield _line("  scorers:", "LongReward: the judge rates four dimensions, and the reward is their mean")
        for scorer in ("helpfulness", "logicality", "completeness", "faithfulness"):
            yield f"    - scorer: {scorer}"
        yield _line("pairing: {rule: best_vs_worst}", "")
    yield _line("embedding: {model: multilingual-e5-small}", "in the box, for 100 languages; others: docs/models.md")
    yield ""


def _end(choices: Choices) -> Iterator[str]:
    yield _line("dataset:", "")
    yield _line(f"  name: {choices.name}", "")
    yield _line("  licence: unknown", "state that of your questions and documents")
    yield "# budget: {money: 20}                       # a run stops there, and goes on from there with more"
    if choices.train:
        yield _line("training:", "docs/training.md; bases of 8B need a GPU")
        yield _line(f"  loss: {'orpo' if choices.method == 'sealong' else 'dpo'}", "")
        yield _line("  method: lora", "qlora: a 4-bit base, on a GPU; full: all weights")
        yield _line(f"  max_length: {choices.policy.window}", "tokens; a question that would pass it is a drop")
    else:
        yield _line("training: null", "build and publish only")
    yield _line("evaluation: null", "docs/evaluate.md: suites, held-out questions")


def _line(text: str, comment: str) -> str:
    return f"{text.ljust(_LINE)}# {comment}" if comment else text


def _value(value: Any) -> str:
    """A value as YAML in one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("...\n").strip()
    )

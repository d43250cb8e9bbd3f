"""SmolLM2 on the library, all on one real vLLM: SeaLong to the compared adapter, LongReward, full training."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.build import build
from flows.cli.demo import write_demo_questions
from flows.improve import improve
from flows.recipes import read_recipe
from flows.shard import shard_recipe
from flows.train import train
from infra.models.tokens import load_tokenizer, resolve_model
from infra.recipe import Recipe
from infra.serving.servers import serve_recipe
from infra.store import open_store
from tasks.contexts.built import own_tokens
from tests.support.command import needs_vllm
from tests.support.tool_template import (
    SCHEMAS,
    TOOL_TEMPLATE,
    asks,
    call,
    result,
    save_tool_tokenizer,
    trajectory,
)
from tests.tasks.planning.test_tool_calls import body_of, built_by, tool_recipe, tool_row

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("prefect"),
    pytest.mark.filterwarnings("ignore"),  # of torch and transformers, on their own imports
    needs_vllm,
]

QUESTIONS, SAMPLES, HELD_OUT = 3, 4, 2
SMALL = (
    f"questions.limit={QUESTIONS}",
    f"sampling.samples={SAMPLES}",
    f"evaluation.questions.limit={HELD_OUT}",
    "evaluation.samples=0",
    "training.max_steps=1",
    "dataset.test_fraction=0",
    "execution.shard_size=2",
    'policy.serve.arguments=[--enforce-eager, --max-num-seqs, "64", --trust-request-chat-template]',
)
RATINGS = ("helpfulness", "logicality")
CUT_SHORT = [  # notes and facts by so small a model take minutes at full length
    {"scorer": "completeness", "max_tokens": 48},
    {"scorer": "faithfulness", "max_tokens": 48, "facts_tokens": 96},
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
    """The demo's recipe for real text, a few questions of it, on a server that runs."""
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        recipe = read_recipe("real-sealong", SMALL)
        write_demo_questions(recipe, "real")
        with serve_recipe(recipe) as running:
            yield running


@pytest.fixture(scope="module")
def report(served: Recipe) -> dict[str, Any]:
    (report,) = improve(shard_recipe(served))
    return report


def test_sealong_ends_with_a_compared_adapter(served: Recipe, report: dict[str, Any]) -> None:
    assert report["questions"] == QUESTIONS == report["paired_questions"] + sum(report["drops"].values())
    assert report["pairs"] > 0
    assert report["trained"]["steps"] == 1
    adapter = json.loads(open_store(served.store).read(f"{report['trained']['model']}/adapter_config.json"))
    assert adapter["r"] == 16
    assert report["model"]["questions"] == HELD_OUT
    assert {"before", "after"} <= report["model"].keys()


@pytest.mark.parametrize("form", ["auto", "text"])
def test_the_prompt_tokens_of_tool_calls_are_those_that_were_planned(served: Recipe, tmp_path: Path, form: str) -> None:
    """What is sent is what a template with tools renders, results that are empty too."""
    empty = [*trajectory(1)[:2], asks(call("e", "search", {"q": "桥"})), result("e", ""), *trajectory(1)[2:]]
    recipe = tool_recipe(tmp_path, [tool_row(0, tools=SCHEMAS), tool_row(1), tool_row(2, empty, tools=SCHEMAS)])
    tokenizer = save_tool_tokenizer(tmp_path / "tokenizer", model=served.policy.tokenizer)
    policy = served.policy.model_copy(update={"tokenizer": tokenizer})
    contexts = recipe.contexts.model_copy(update={"tools": form})
    recipe = recipe.model_copy(update={"policy": policy, "contexts": contexts})
    counted, sent = {}, {}
    for built in built_by(recipe):
        name = built.example.example_id
        body = body_of(built.example, built.context, policy, own_tokens(recipe, load_tokenizer(tokenizer)))
        assert ("tools" in body) == (form == "auto" and name != "t1")
        counted[name] = built.prompt_tokens
        request = {**body, "max_tokens": 1, "chat_template": TOOL_TEMPLATE}
        sent[name] = post(f"{policy.endpoints[0]}/chat/completions", request)["usage"]["prompt_tokens"]
    assert sent == counted
    assert len(counted) == 3


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        reply: dict[str, Any] = json.load(response)
    return reply


def test_answers_are_of_real_text(served: Recipe, report: dict[str, Any]) -> None:
    store = open_store(served.store)
    folder = report["manifest"]["path"].rpartition("/")[0]
    paths = [path for path in store.list(folder) if "/data/train" in path and path.endswith(".parquet")]
    rows = [row for path in paths for row in store.read_table(path).to_pylist()]
    assert len(rows) == report["pairs"]
    for row in rows:
        prompt = row["prompt"][0]["content"]
        assert "Passage 1:" in prompt and len(prompt) > 1500
        assert row["chosen"][0]["content"] != row["rejected"][0]["content"]


def test_longreward_with_replies_held_to_their_form(served: Recipe, report: dict[str, Any]) -> None:
    """The judge is the policy itself: too small to judge well, and held to the form of its replies."""
    judge = served.policy.model_dump(mode="json") | {"prompts": "terse", "serve": None}
    settings = served.model_dump(mode="json") | {
        "judge": judge,
        "scoring": {"scorers": [*({"scorer": rating} for rating in RATINGS), *CUT_SHORT], "prune": False},
        "pairing": {"rule": "random_pair", "max_likeness": 1},  # such a judge finds ties alone, which are not published
        "dataset": {"name": "real-longreward", "licence": "apache-2.0"},
    }
    settings["questions"]["limit"], settings["sampling"]["samples"] = 1, 2  # of those that were answered before
    recipe = Recipe.model_validate(settings)
    built = build(shard_recipe(recipe))
    assert built["calls"]["sample"] == {**built["calls"]["sample"], "made": 0, "reused": 2}
    counts = built["dataset"]["counts"]
    assert counts["questions"] == 1 == counts["pairs"] + sum(counts["drops"].values())
    assert {"notes", "completeness", "facts"} <= built["calls"].keys()
    assert {calls["failed"] for calls in built["calls"].values()} == {0}, "vLLM takes every form"
    for rating in RATINGS:
        calls = built["calls"][rating]
        assert calls["made"] == 2, "a reply that is held to its form is usable at the first try"


def test_the_whole_model_is_trained(served: Recipe, report: dict[str, Any]) -> None:
    changed = served.training
    assert changed is not None
    recipe = served.model_copy(update={"training": changed.model_copy(update={"method": "full"})})
    trained = train(shard_recipe(recipe), report["manifest"]["path"])
    assert (trained["kind"], trained["steps"]) == ("full", 1)
    folder = Path(served.store) / trained["model"]
    original = Path(resolve_model("smollm2")) / "model.safetensors"
    assert (folder / "model.safetensors").stat().st_size >= original.stat().st_size

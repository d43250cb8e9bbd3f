"""A history with tool calls on a real vLLM whose chat template has a place for them: the planned tokens are sent."""

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from infra.models.packaged.models import BOX
from infra.models.protocol import Request
from infra.recipe import Execution, Model
from infra.serving.servers import serve
from infra.store import open_store
from tasks.planning.make_plan import make_plan
from tasks.records.plan import load_shard
from tasks.sampling import sample_prompt
from tests.support.command import ROOT, needs_vllm
from tests.support.tool_template import SCHEMAS, asks, call, result, save_tool_tokenizer, trajectory
from tests.tasks.planning.test_tool_calls import built_by, tool_recipe, tool_row, with_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), needs_vllm]

EMPTY = [*trajectory(1)[:2], asks(call("e", "search", {"q": "桥"})), result("e", ""), *trajectory(1)[2:]]


def served_model(folder: Path) -> Model:
    """The generated world's model, with the chat template that knows tools."""
    shutil.copytree(BOX / "microworld", folder)
    (folder / "chat_template.jinja").unlink()
    save_tool_tokenizer(folder)
    serving = {
        "model_path": str(folder),
        "python": str(ROOT / ".venv-serving" / "bin" / "python"),
        "arguments": ["--enforce-eager", "--max-num-seqs", "4"],
    }
    return Model.model_validate({"name": "tools", "tokenizer": str(folder), "context_window": 4096, "serve": serving})


def usage_of(url: str, body: bytes) -> dict[str, Any]:
    request = urllib.request.Request(f"{url}/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        usage: dict[str, Any] = json.load(response)["usage"]
    return usage


def test_the_prompt_tokens_of_tool_calls_are_those_that_were_planned(tmp_path: Path) -> None:
    rows = [tool_row(0, tools=SCHEMAS), tool_row(1), tool_row(2, EMPTY, tools=SCHEMAS)]
    recipe = tool_recipe(tmp_path / "recipe", rows)
    model = served_model(tmp_path / "model")
    with serve(model, log=tmp_path / "vllm.log", execution=Execution(), adapters=False) as url:
        for planned, tools in ((recipe, 2), (with_text(recipe), 0)):
            store = open_store(planned.store)
            plan = make_plan(planned, store)
            examples, contexts = load_shard(store, plan, 0)
            counted = {built.example.example_id: built.prompt_tokens for built in built_by(planned)}
            bodies = {}
            for example in examples:
                context = contexts[example.context_id]
                prompt = sample_prompt(example, context, "default", planned.policy, plan.special_tokens)
                parameters = {"max_tokens": 1, "seed": 1}
                bodies[example.example_id] = Request("sample", "tools", "main", prompt, parameters, 0, "c").body()
            assert sum(b'"tools":[' in body for body in bodies.values()) == tools
            assert {name: usage_of(url, body)["prompt_tokens"] for name, body in bodies.items()} == counted

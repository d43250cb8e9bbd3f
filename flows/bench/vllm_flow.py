"""Throughput of the build flow beside a bare loop that sends the same requests to the same real vLLM.

Two models, on this machine's processor. The demo's is so small that a call takes a hundredth of a second, so the
fixed costs of a run weigh heavily. A Llama of 36M parameters with random weights, over contexts of 2k tokens, takes
a minute or more a turn, so they weigh little. Flow and loop take turns. Their requests differ in top_p alone, by a
millionth a turn, so that every reply comes from the model; the contexts are the same, so that the prefix cache
serves both alike.
"""

import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from flows.bench.common import median_ratio, rounded, run_as_flow
from flows.cli.demo import write_demo_questions
from flows.recipes import read_recipe
from infra.models.client import Request
from infra.models.tokens import resolve_model
from infra.recipe import Recipe
from infra.serving.servers import serve_recipe
from tasks.planning.make_plan import make_plan
from tasks.records.plan import Plan, load_shard
from tasks.resources import RunResources, open_resources
from tasks.sampling import sample_requests

SMALL = (
    "questions.limit=96",
    "contexts.min_tokens=896",
    "contexts.max_tokens=1024",
    "policy.context_window=1536",
)
LONGER = (
    "questions.limit=48",
    "contexts.min_tokens=1920",
    "contexts.max_tokens=2048",
    "contexts.step_tokens=128",
    "policy.context_window=2560",
    "sampling.max_tokens=64",
)


def measure(rounds: int = 3) -> dict[str, Any]:
    """Calls a second of flow and loop, and the median of their ratios, by model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        larger = _random_llama(folder / "random-llama")
        return {
            "microworld_1M_1k_tokens": _beside_a_loop(folder / "demo", rounds, *SMALL),
            "random_36M_2k_tokens": _beside_a_loop(
                folder / "larger", rounds, *LONGER, "policy.name=random-llama", f"policy.serve.model_path={larger}"
            ),
        }


def _beside_a_loop(folder: Path, rounds: int, *changes: str) -> dict[str, Any]:
    recipe = _recipe(folder, changes)
    write_demo_questions(recipe)
    with serve_recipe(recipe) as settings:
        flow_rates, bare_rates = [], []
        for number in range(rounds + 1):  # the first round warms the server up and is not counted
            flow_rates.append(_flow_rate(_fresh(settings, folder, f"flow-{number}", 2 * number)))
            bare_rates.append(_bare_rate(_fresh(settings, folder, f"bare-{number}", 2 * number + 1)))
    flow_rates, bare_rates = flow_rates[1:], bare_rates[1:]
    return {
        "flow_calls_per_s": rounded(flow_rates, 2),
        "bare_calls_per_s": rounded(bare_rates, 2),
        "ratio_median": round(median_ratio(flow_rates, bare_rates), 3),
    }


def _recipe(folder: Path, changes: tuple[str, ...]) -> Recipe:
    paths = [
        f"store={folder / 'store'}",
        f"questions.source={folder / 'train' / 'questions.jsonl'}",
        f"contexts.pool={folder / 'train' / 'pool.jsonl'}",
        "training=null",
        "evaluation=null",
    ]
    return read_recipe("demo-sealong", [*paths, *changes])


def _random_llama(folder: Path) -> Path:
    """A model folder: the demo's tokenizer and a Llama of 36M parameters whose weights are random."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(resolve_model("microworld"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = LlamaConfig.from_pretrained(folder)
    config.update({"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 10})
    config.update({"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64})
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _fresh(recipe: Recipe, folder: Path, store: str, turn: int) -> Recipe:
    """The recipe on an empty store; its requests are other ones than those of another turn."""
    sampling = recipe.sampling.model_copy(update={"top_p": 1.0 - turn * 1e-6, "greedy": False})
    return recipe.model_copy(update={"store": str(folder / store), "sampling": sampling})


def _flow_rate(recipe: Recipe) -> float:
    with open_resources(recipe) as resources:
        plan = make_plan(recipe, resources.store)
        clock = time.monotonic()
        run_as_flow(resources, plan)
        return _calls(recipe, plan) / (time.monotonic() - clock)


def _bare_rate(recipe: Recipe) -> float:
    with open_resources(recipe) as resources:
        plan = make_plan(recipe, resources.store)
        requests = _requests(recipe, resources, plan)
        clock = time.monotonic()
        asyncio.run(_send_all(recipe, requests))
        return len(requests) / (time.monotonic() - clock)


def _calls(recipe: Recipe, plan: Plan) -> int:
    return plan.planned_questions * recipe.sampling.samples


def _requests(recipe: Recipe, resources: RunResources, plan: Plan) -> list[Request]:
    requests: list[Request] = []
    for shard in plan.shards:
        examples, contexts = load_shard(resources.store, plan, shard.index)
        for example in examples:
            requests += sample_requests(example, contexts[example.context_id], recipe)
    return requests


async def _send_all(recipe: Recipe, requests: list[Request]) -> None:
    """Send all requests, as many at once as the recipe allows, and read the replies."""
    import aiohttp

    limit = asyncio.Semaphore(recipe.execution.concurrency)
    url = f"{recipe.policy.endpoints[0]}/chat/completions"
    headers = {"Content-Type": "application/json"}

    async def send(session: aiohttp.ClientSession, request: Request) -> None:
        body = {"model": request.model, "messages": list(request.prompt.messages), **request.parameters}
        async with limit, session.post(url, data=json.dumps(body), headers=headers) as response:
            await response.read()
            response.raise_for_status()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(send(session, request) for request in requests))

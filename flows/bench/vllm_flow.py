"""Throughput of the build flow beside a bare loop that fires the same requests at the same real vLLM.

Two models, on this machine's own processor: the demo's, so small that a call takes a hundredth of a second and what
a run pays once weighs heavily, and a Llama of 36M parameters, made here with random weights, over contexts of 2k
tokens: a minute or more a turn, so that what is paid once at its end weighs as little as a benchmark can afford.
Flow and loop take turns; each turn uses fresh seeds, so that no reply can come from anywhere but the model,
and the same contexts, so that the prefix cache is as warm for both.
"""

import asyncio
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from flows.bench.common import run_as_flow
from flows.cli.demo import write_questions
from flows.recipes import read_recipe
from infra.models.client import Request
from infra.models.serving import reached
from infra.models.tokens import resolve_model
from infra.recipe import Recipe
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
    """Calls per second of flow and loop, and the median of their ratios, by model."""
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
    write_questions(recipe)
    with reached(recipe) as settings:
        flow_rates, bare_rates = [], []
        for number in range(rounds + 1):  # the first round warms the server up and is not counted
            flow_rates.append(_flow_rate(_fresh(settings, folder, f"flow-{number}", 2 * number)))
            bare_rates.append(_bare_rate(_fresh(settings, folder, f"bare-{number}", 2 * number + 1)))
    ratios = [ours / bare for ours, bare in zip(flow_rates[1:], bare_rates[1:], strict=True)]
    return {
        "flow_calls_per_s": [round(rate, 2) for rate in flow_rates[1:]],
        "bare_calls_per_s": [round(rate, 2) for rate in bare_rates[1:]],
        "ratio_median": round(statistics.median(ratios), 3),
    }


def _recipe(folder: Path, changes: tuple[str, ...]) -> Recipe:
    here = [
        f"store={folder / 'store'}",
        f"questions.source={folder / 'train' / 'questions.jsonl'}",
        f"contexts.pool={folder / 'train' / 'pool.jsonl'}",
        "evaluation=null",
    ]
    return read_recipe("demo-sealong", [*here, *changes])


def _random_llama(folder: Path) -> Path:
    """A model folder: the demo's tokenizer and a Llama of 36M parameters whose weights are random."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(resolve_model("microworld"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = LlamaConfig.from_pretrained(folder)
    wider = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 10, "num_attention_heads": 8}
    config.update({**wider, "num_key_value_heads": 8, "head_dim": 64})
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _fresh(recipe: Recipe, folder: Path, store: str, seed: int) -> Recipe:
    """The recipe on an empty store; the seeds of its samples differ through the policy's top_p alone."""
    sampling = recipe.sampling.model_copy(update={"top_p": 1.0 - seed * 1e-6, "greedy": False})
    return recipe.model_copy(update={"store": str(folder / store), "sampling": sampling})


def _flow_rate(recipe: Recipe) -> float:
    with open_resources(recipe) as bench:
        plan = make_plan(recipe, bench.store)
        clock = time.monotonic()
        run_as_flow(bench, plan)
        return _calls(recipe, plan) / (time.monotonic() - clock)


def _bare_rate(recipe: Recipe) -> float:
    with open_resources(recipe) as bench:
        plan = make_plan(recipe, bench.store)
        requests = _requests(recipe, bench, plan)
        clock = time.monotonic()
        asyncio.run(_fire(recipe, requests))
        return len(requests) / (time.monotonic() - clock)


def _calls(recipe: Recipe, plan: Plan) -> int:
    return sum(each.questions for each in plan.shards) * recipe.sampling.samples


def _requests(recipe: Recipe, bench: RunResources, plan: Plan) -> list[Request]:
    found = []
    for each in plan.shards:
        examples, contexts = load_shard(bench.store, plan, each.index)
        for example in examples:
            found += sample_requests(example, contexts[example.context_id], recipe)
    return found


async def _fire(recipe: Recipe, requests: list[Request]) -> None:
    import aiohttp

    gate = asyncio.Semaphore(recipe.execution.concurrency)
    url = f"{recipe.policy.endpoints[0]}/chat/completions"

    async def one(session: aiohttp.ClientSession, request: Request) -> None:
        body = {"model": request.model, "messages": list(request.prompt.messages), **request.parameters}
        async with (
            gate,
            session.post(url, data=json.dumps(body), headers={"Content-Type": "application/json"}) as reply,
        ):
            await reply.read()
            reply.raise_for_status()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(one(session, request) for request in requests))

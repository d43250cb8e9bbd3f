"""Which GPUs or cores each server gets, where several run on this machine: policy and judge, or replicas of one.

A server that has the machine to itself gets nothing assigned and sees all of it, as vLLM does by itself.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.errors import PrerequisiteError
from infra.recipe import Model, Serving
from infra.serving import hardware


@dataclass(frozen=True, slots=True)
class GpuShare:
    """The GPUs of one server, and how many servers are on the busiest of them."""

    gpus: tuple[str, ...]
    servers: int


@dataclass(frozen=True, slots=True)
class Share:
    """What one server gets of the machine."""

    servers: int = 1  # on this machine, of this run
    gpu: GpuShare | None = None  # None: all GPUs
    cores: str | None = None  # like "0,1"; None: all


def shares_of_servers(models: Mapping[str, Model]) -> dict[str, list[Share]]:
    """The share of every server to start, by section. Raises PrerequisiteError when replicas lack GPUs."""
    servers = []
    for section, model in models.items():
        if model.serve is not None:
            servers += [(section, model.serve)] * model.serve.replicas
    assigned = _gpu_shares(servers) if hardware.has_gpu() else _core_shares(servers)
    shares: dict[str, list[Share]] = {}
    for section in models:
        shares[section] = []
    for (section, _), share in zip(servers, assigned, strict=True):
        shares[section].append(share)
    for section, model in models.items():
        if model.serve is None:
            shares[section].append(Share())  # the rule-based judge
    return shares


def _gpu_shares(servers: Sequence[tuple[str, Serving]]) -> list[Share]:
    """GPUs for each server, in order: the policy's first."""
    gpus = visible_gpus()
    needs: list[int] = []
    for _, serving in servers:
        needs.append(serving.gpus_each or serving.tensor_parallel_size or 1)
    alone = len(servers) == 1 and not (servers[0][1].gpus_each or servers[0][1].tensor_parallel_size)
    spread = any("parallel" in word for _, serving in servers for word in serving.arguments)
    if alone or spread or not gpus:  # `arguments` that spread a model over GPUs: who writes them assigns GPUs too
        return [Share(len(servers))] * len(servers)
    gpu_shares = share_gpus(needs, gpus)
    replicated = any(serving.replicas > 1 for _, serving in servers)
    if gpu_shares is None or (replicated and sum(needs) > len(gpus)):
        sections = " and ".join(dict.fromkeys(section for section, _ in servers))
        raise PrerequisiteError(
            f"the servers of {sections} need {sum(needs)} GPUs (replicas x gpus_each), and {len(gpus)} can be seen "
            f"({','.join(gpus)}): start fewer replicas, or set CUDA_VISIBLE_DEVICES"
        )
    return [Share(len(servers), gpu_share) for gpu_share in gpu_shares]


def _core_shares(servers: Sequence[tuple[str, Serving]]) -> list[Share]:
    """Cores of its own for each replica: vLLM binds its threads to cores, and would bind those of all to the same."""
    cores = None
    if any(serving.replicas > 1 for _, serving in servers):
        cores = share_cores(len(servers), sorted(os.sched_getaffinity(0)))
    if cores is None or any((serving.tensor_parallel_size or 1) > 1 for _, serving in servers):
        return [Share(len(servers))] * len(servers)
    return [Share(len(servers), cores=own) for own in cores]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip()]
    numbers = []
    for path in Path("/dev").glob("nvidia[0-9]*"):
        numbers.append(int(path.name.removeprefix("nvidia")))
    return list(map(str, sorted(numbers)))


def share_gpus(needs: Sequence[int], gpus: Sequence[str]) -> list[GpuShare] | None:
    """GPUs for servers that need so many: for each its own, while they last.

    Where there are too few, servers share them in turn. None when one server needs more than there are.
    """
    if max(needs, default=0) > len(gpus):
        return None
    chosen: list[tuple[str, ...]] = []
    used = dict.fromkeys(gpus, 0)
    for need in needs:
        least_used = sorted(gpus, key=lambda gpu: used[gpu])[:need]
        for gpu in least_used:
            used[gpu] += 1
        chosen.append(tuple(least_used))
    return [GpuShare(own, max(used[gpu] for gpu in own)) for own in chosen]


def share_cores(servers: int, cores: Sequence[int]) -> list[str] | None:
    """A list of cores like "0,1" for each server, of its own; None when there are too few."""
    cores_each = len(cores) // servers
    if cores_each == 0:
        return None
    shares = []
    for index in range(servers):
        shares.append(",".join(map(str, cores[index * cores_each : (index + 1) * cores_each])))
    return shares

"""Servers that a build starts listen on its own host alone: shards on workers of other hosts cannot call them."""

import socket
from urllib.parse import urlsplit

from infra.errors import RecipeError, ServingError
from infra.recipe import Recipe
from infra.running.remote_runs import pool_of

_CONNECT_S = 5.0


def own_servers(recipe: Recipe) -> list[str]:
    """The sections of models whose servers a build of the recipe starts itself."""
    return [section for section, model in recipe.models().items() if model.starts_here() and not model.endpoints]


def check_workers_reach(recipe: Recipe) -> None:
    """Look at the recipe's shard deployment before servers start.

    Raises RecipeError where there is none, or where its runs get containers and so could not call the build's servers.
    """
    assert recipe.execution.shard_deployment is not None
    pool = pool_of(recipe.execution.shard_deployment)
    sections = own_servers(recipe)
    if sections and pool.type != "process":
        raise RecipeError(
            f"{sections[0]}: a server that this build starts listens on its own host alone, and its shards run in "
            f"containers of the pool {pool.name} ({pool.type}): name a server that all reach in {sections[0]}.endpoints"
        )


def check_reach(recipe: Recipe, build_host: str) -> None:
    """In a shard's run: look for servers that a build on another host has started. Raises ServingError without them."""
    here = socket.gethostname()
    if not build_host or build_host == here:
        return
    for section, model in recipe.models().items():
        for url in model.endpoints if model.starts_here() else ():
            place = urlsplit(url)
            try:
                socket.create_connection((place.hostname or "", place.port or 80), timeout=_CONNECT_S).close()
            except OSError as error:
                raise ServingError(
                    f"the server of {section} at {url} cannot be reached from {here}: the build on {build_host} has "
                    f"started it for its own host alone. Run workers of the shard deployment on {build_host} only, or "
                    f"name a server that all reach in {section}.endpoints"
                ) from error

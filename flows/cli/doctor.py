"""What the machine and the recipe need, one check a line: what `longmill doctor` and every run look at."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from infra.errors import LongmillError, PrerequisiteError
from infra.models.serving import check_model_path, check_port, check_serving_python, local_folder
from infra.models.tokens import load_tokenizer
from infra.recipe import Recipe, Serving
from infra.running.prerequisites import RUN_GB, lacks
from infra.store import open_store

Check = tuple[str, Callable[[], object]]


def require_machine(recipe: Recipe) -> None:
    """Raise PrerequisiteError naming everything that is missing on this machine for this recipe."""
    if found := [lack for _, lack in _run_all(_machine_checks(recipe)) if lack]:
        raise PrerequisiteError("; ".join(found))


def checks(recipe: Recipe) -> list[tuple[str, str]]:
    """Every check's name, and what is missing or ''."""
    return list(_run_all([*_machine_checks(recipe), *_recipe_checks(recipe)]))


def _machine_checks(recipe: Recipe) -> Iterator[Check]:
    started = [(section, model) for section, model in recipe.models().items() if not model.endpoints]
    folder = local_folder(recipe.store)

    def machine() -> None:
        vllm = any(model.serve is not None for _, model in started)
        if found := list(lacks(disk_gb=RUN_GB, serving=vllm, folder=folder)):
            raise PrerequisiteError("; ".join(found))

    yield "Python, processor, disk", machine
    yield f"may write to {folder}", lambda: _writable(folder)
    for section, model in started:
        if model.serve is not None:
            yield from _serving_checks(section, model.serve)


def _serving_checks(section: str, serve: Serving) -> Iterator[Check]:
    of = "" if section == "policy" else f" of the {section}"
    yield f"environment for vLLM{of}", lambda: check_serving_python(serve, section)
    yield f"model {serve.model_path}{of}", lambda: check_model_path(serve, section)
    if serve.port:
        yield f"port {serve.port}{of}", lambda: check_port(serve.port, section)


def _recipe_checks(recipe: Recipe) -> Iterator[Check]:
    yield f"store {recipe.store}", lambda: open_store(recipe.store).list("plans")
    yield "scorers", lambda: _scorers(recipe)
    for section, model in recipe.models().items():
        yield (
            f"{section}'s tokenizer {model.tokenizer}",
            partial(load_tokenizer, model.tokenizer, model.trust_remote_code),
        )
        for url in model.endpoints:
            yield f"{section}'s endpoint {url}", partial(_answers, section, url, model.api_key_env)


def _scorers(recipe: Recipe) -> None:
    from tasks.scoring import check_scorers, known_scorers

    for active in check_scorers(recipe):
        known_scorers()[active.name].check(active.settings)


def _run_all(some: Iterator[Check] | list[Check]) -> Iterator[tuple[str, str]]:
    for name, check in some:
        try:
            check()
        except LongmillError as error:
            yield name, str(error)
        else:
            yield name, ""


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrerequisiteError(f"{folder}: cannot be made ({error.strerror}); run where you may write") from error
    if not os.access(folder, os.W_OK):
        raise PrerequisiteError(f"{folder}: may not be written; run elsewhere, or set another store")


def _answers(section: str, url: str, api_key_env: str) -> None:
    import urllib.request

    key = os.environ.get(api_key_env)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(f"{url}/models", headers=headers)  # noqa: S310 - an endpoint of the recipe
    try:
        urllib.request.urlopen(request, timeout=10).read()  # noqa: S310
    except OSError as error:
        raise PrerequisiteError(f"{url} does not answer ({error}); start it, or mend {section}.endpoints") from error

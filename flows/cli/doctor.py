"""The checks of the machine and the recipe: what `longmill doctor` prints, and what every run looks at first."""

import itertools
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from flows.cli.server_checks import server_checks
from infra.errors import LongmillError, PrerequisiteError, StoreError
from infra.models.api_key import check_api_keys, read_api_key
from infra.models.forms.request_form import headers_of
from infra.models.served_window import read_models, window_in
from infra.models.tokens import load_tokenizer
from infra.recipe import Model, Recipe, Serving
from infra.running.prerequisites import RUN_GB, missing_prerequisites
from infra.serving.checks import check_model_path, check_port, check_serving_python
from infra.serving.servers import local_folder, shared_servers
from infra.store import open_store

# A name, and a function that raises LongmillError when something is missing, and returns what is to be said, if any.
Check = tuple[str, Callable[[], object]]


def require_machine(recipe: Recipe) -> None:
    """Raise PrerequisiteError naming everything that is missing on this machine for this recipe."""
    faults = []
    for _, fault in _results(_machine_checks(recipe)):
        if fault:
            faults.append(fault)
    if faults:
        raise PrerequisiteError("; ".join(faults))


def run_checks(recipe: Recipe) -> list[tuple[str, str]]:
    """Run every check: (its name and what it has to say, what is missing or '')."""
    return list(_results(itertools.chain(_machine_checks(recipe), server_checks(), _recipe_checks(recipe))))


def _results(some_checks: Iterable[Check]) -> Iterator[tuple[str, str]]:
    for name, check in some_checks:
        try:
            notes = check()
        except LongmillError as error:
            yield name, str(error)
        else:
            yield f"{name}: {'; '.join(notes)}" if notes and isinstance(notes, list) else name, ""


def _machine_checks(recipe: Recipe) -> Iterator[Check]:
    served: dict[str, Serving] = {}
    for section, model in recipe.models().items():
        if not model.endpoints and model.serve is not None and not shared_servers(recipe, section):
            served[section] = model.serve
    folder = local_folder(recipe.store)

    def check_machine() -> None:
        faults = list(missing_prerequisites(disk_gb=RUN_GB, serving=bool(served), folder=folder))
        if faults:
            raise PrerequisiteError("; ".join(faults))

    yield "Python, processor, disk", check_machine
    yield f"may write to {folder}", partial(_check_writable, folder)
    for section, model in recipe.models().items():
        if model.headers:
            yield f"{section}'s headers", partial(headers_of, model, section)
    for section, serving in served.items():
        yield from _serving_checks(section, serving)


def _serving_checks(section: str, serving: Serving) -> Iterator[Check]:
    suffix = "" if section == "policy" else f" of the {section}"
    yield f"environment for vLLM{suffix}", partial(check_serving_python, serving, section)
    yield f"model {serving.model_path}{suffix}", partial(check_model_path, serving, section)
    if serving.port:
        for port in range(serving.port, serving.port + serving.replicas):
            yield f"port {port}{suffix}", partial(check_port, port, section)


def _recipe_checks(recipe: Recipe) -> Iterator[Check]:
    yield f"store {recipe.store}", partial(_check_store, recipe)
    yield "scorers", partial(_check_scorers, recipe)
    yield "API keys", partial(check_api_keys, recipe)
    if recipe.training is not None:
        yield "chat template for training", partial(_check_trainable, recipe)
    for section, model in recipe.models().items():
        check_tokenizer = partial(load_tokenizer, model.tokenizer, model.trust_remote_code)
        yield f"{section}'s tokenizer {model.tokenizer}", check_tokenizer
        for url in model.endpoints:
            yield f"{section}'s endpoint {url}", partial(_check_endpoint, section, url, model)
        if model.mode == "batch":
            yield f"{section}'s batches", partial(_check_batches, model, section)
        if model.endpoints and section != "judge":
            yield f"{section}'s reply to a small call", partial(_try_model, recipe, section)
    if recipe.judge is not None and recipe.judge.endpoints:
        yield "judge's replies to 32 small calls", partial(_try_judge, recipe)


def _check_store(recipe: Recipe) -> list[str]:
    """Write, read and remove a file, and see whether of two writers one wins."""
    store = open_store(recipe.store)
    path, data = f".probe/{uuid.uuid4().hex}", b"longmill doctor"
    store.list("plans")
    store.write(path, data)
    try:
        if store.read(path) != data:
            raise StoreError(f"{store.place(path)} reads otherwise than it was written; use another store")
    finally:
        store.delete(path)
    if store.has_one_winner():
        return []
    return ["it ignores conditional writes, so publish from one process at a time"]


def _check_scorers(recipe: Recipe) -> None:
    from tasks.scoring import check_scorers, known_scorers

    for active in check_scorers(recipe):
        known_scorers()[active.name].check(active.settings)


def _check_trainable(recipe: Recipe) -> list[str]:
    from tasks.training.trainable import check_trainable

    return check_trainable(recipe, here="training" in recipe.model_fields_set)


def _try_model(recipe: Recipe, section: str) -> list[str]:
    from tasks.model_trial import try_model

    model = recipe.models()[section]
    for url in model.endpoints:
        _check_endpoint(section, url, model)
    return try_model(recipe, section)


def _check_batches(model: Model, section: str) -> None:
    from tasks.model_trial import list_batches

    list_batches(model, section)


def _try_judge(recipe: Recipe) -> list[str]:
    from tasks.judging.trying import try_judge

    assert recipe.judge is not None
    for url in recipe.judge.endpoints:
        _check_endpoint("judge", url, recipe.judge)
    return try_judge(recipe)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrerequisiteError(f"{folder}: cannot be made ({error.strerror}); run where you may write") from error
    if not os.access(folder, os.W_OK):
        raise PrerequisiteError(f"{folder}: may not be written; run elsewhere, or set another store")


def _check_endpoint(section: str, url: str, model: Model) -> None:
    try:
        body = read_models(url, read_api_key(model.api_key_env), headers_of(model, section))
    except OSError as error:
        raise PrerequisiteError(f"{url} does not answer ({error}); start it, or mend {section}.endpoints") from error
    window = window_in(body, model.name)
    if window is not None and window < model.context_window:
        raise PrerequisiteError(
            f"{url} serves {model.name} with max_model_len = {window}, less than {section}.context_window = "
            f"{model.context_window}: start it with --max-model-len {model.context_window}, or set "
            f"{section}.context_window to {window}"
        )

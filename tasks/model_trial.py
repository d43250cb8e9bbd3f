"""Trying a model without a run: one small call as the run would make it, and what refusals have changed in it."""

import asyncio
import os
from collections.abc import Sequence

from infra.errors import ModelError
from infra.ledger import Entry
from infra.models.batches.server import BatchFault, BatchServer
from infra.models.client import Failure, ModelClient, Prompt, Request
from infra.models.forms.refusals import INT32_MAX
from infra.models.forms.request_form import RequestForm, headers_of, parameters_of, prompt_for
from infra.models.forms.settler import FormSettler
from infra.recipe import Model, Recipe

_TIMEOUT_S = 120.0
_PROMPT = Prompt(({"role": "user", "content": "Reply with one word: yes."},))


class _NoLedger:
    """In the place of a ledger: holds nothing."""

    def lookup(self, keys: Sequence[str]) -> dict[str, Entry]:
        return {}

    def holds(self, keys: Sequence[str]) -> set[str]:
        return set()

    async def record(self, entry: Entry) -> None:
        """Nothing is kept."""


def trial_client(model: Model, section: str) -> ModelClient:
    """A client whose calls leave nothing behind. Raises PrerequisiteError for a header without its variable."""
    return ModelClient(
        model.endpoints,
        os.environ.get(model.api_key_env),
        _NoLedger(),
        timeout_s=_TIMEOUT_S,
        attempts=1,
        api_key_env=model.api_key_env,
        reasoning=model.reasoning,
        form=FormSettler(RequestForm.of(model), say=lambda line: None),
        headers=headers_of(model, section),
        try_first=True,
    )


def try_model(recipe: Recipe, section: str) -> list[str]:
    """Call the model of a section once; returns what had to be settled, a line each. Raises as `trial_reply`."""
    _, settled = trial_reply(recipe, section)
    return settled


def trial_reply(recipe: Recipe, section: str) -> tuple[str, list[str]]:
    """Call the model of a section once; returns its reply, and what had to be settled, a line each.

    Raises ModelError with the server's words when it refuses such a call, or cannot be reached.
    """
    model = recipe.models()[section]
    sampling = recipe.sampling
    own = {
        "temperature": _telling_temperature(sampling.temperature, sampling.greedy),
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": INT32_MAX,  # the largest that a run can send
    }
    prompt = prompt_for(model, _PROMPT)
    request = Request("trial", model.name, model.revision, prompt, parameters_of(model, own), 0, "trial")
    with trial_client(model, section) as client:
        outcome = client.complete([request])[0]
        if isinstance(outcome, Failure):
            raise ModelError(f"{section}: {model.name} refuses such calls ({outcome.reason}): {outcome.detail}")
        return outcome.text, client.settled()


def list_batches(model: Model, section: str) -> None:
    """Ask a model's endpoint for its batches. Raises ModelError with the server's words when it has none."""

    async def ask() -> None:
        (url,) = model.endpoints
        key = os.environ.get(model.api_key_env)
        server = BatchServer(url, key, headers_of(model, section), _TIMEOUT_S, attempts=1)
        try:
            await server.find("none", "none")
        except BatchFault as fault:
            raise ModelError(f"{section}: {url} has no batches ({fault}); take mode: live") from fault
        finally:
            await server.close()

    asyncio.run(ask())


def _telling_temperature(temperature: float, greedy: bool) -> float:
    """The temperature, of those that a run sends, that a server with one temperature is most likely to refuse."""
    return 0.0 if greedy and temperature == 1 else temperature

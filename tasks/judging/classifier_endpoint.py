"""A sequence classifier behind an endpoint: by which of vLLM's routes its server gives the numbers that are wanted.

Before the first input the server is sent a short one. What it says is read from the ledger afterwards.
"""

from collections.abc import Callable, Mapping

from infra.errors import RecipeError
from infra.models.client import Failure, Prompt, Request
from infra.models.scores import Route, read_scores
from tasks.judging.asking import client_of, judge_settings, refuse_passing_failures
from tasks.judging.classifier_settings import ClassifierSettings
from tasks.judging.context import ScoringContext
from tasks.judging.steps import ModelRole

PARAMETERS = (("use_activation", False),)  # the logits as they are


def find_route(
    role: ModelRole,
    key: str,
    settings: ClassifierSettings,
    probes: Mapping[Route, Prompt],
    fault_of: Callable[[int], str | None],
    scoring: ScoringContext,
) -> Route:
    """The first route of `probes`, which holds a short input for each, by which the server gives numbers.

    `fault_of` says what is wrong with so many numbers. `key` of the recipe names the model in messages. Raises
    RecipeError when there is no route, with what the server said to each, and ModelError when it cannot be reached.
    """

    def probe() -> Route:
        client = client_of(scoring, role)
        refusals = []
        for route, prompt in probes.items():
            outcome = client.complete([_probe(role, route, prompt, scoring)])[0]
            refuse_passing_failures([outcome], [f"the first call to /{route}"])
            if isinstance(outcome, Failure):
                refusals.append(f"/{route}: {outcome.detail}")
                continue
            labels = read_scores(outcome.raw).labels
            fault = fault_of(labels)
            if fault is None:
                return route
            raise RecipeError(
                f"{key}.model: {settings.model!r} at {settings.endpoint} gives {labels} numbers by /{route}{fault}"
            )
        raise RecipeError(
            f"{key}.endpoint: {settings.endpoint} gives no score for {settings.model!r} ({'; '.join(refusals)}). "
            "Serve such a model there with vLLM (--runner pooling), or have it asked by another route"
        )

    return scoring.cache.get((role, "route", settings.model, settings.revision, tuple(probes)), probe)


def _probe(role: ModelRole, route: Route, prompt: Prompt, scoring: ScoringContext) -> Request:
    judge = judge_settings(scoring, role)
    own = "probe", judge.name, judge.revision, prompt, dict(PARAMETERS), 0, "probe", route
    return Request(*own, has_alternative=True)

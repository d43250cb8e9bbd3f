"""What Longmill deploys: each flow that is run on workers, its queue, its parameters and its schedule.

`longmill deploy` registers this list with a Prefect server. Training and evaluation wait in the queue `train`, so that
a host with GPUs can serve it alone and others not at all.
"""

from flows.build import nightly
from flows.evaluate import evaluate_recipe
from flows.improve import improve_recipe
from flows.maintain import maintain
from flows.rerun import rerun
from flows.train import train
from flows.workers import shard
from infra.running.registration import Deployment

RECIPE = {"recipe": "sealong"}  # in the box, so that every worker has it

DEPLOYMENTS = (
    Deployment(
        name="longmill-nightly",
        flow=nightly,
        description="Build the dataset of a recipe every night, then request its training.",
        parameters=RECIPE,
        cron="0 1 * * *",
        cron_is_named=True,
        most_runs=1,
    ),
    Deployment(
        name="longmill-build",
        flow=nightly,
        description="Build the dataset of a recipe now, then request its training.",
        parameters=RECIPE,
    ),
    Deployment(
        name="longmill-shard",
        flow=shard,
        description="Work on shards of a plan; started by a build with execution.shard_deployment.",
    ),
    Deployment(
        name="longmill-rerun",
        flow=rerun,
        description='Run the failed shards of a plan again (or "3,7-9"), then publish.',
        parameters={"store": "mill", "failed": True},
    ),
    Deployment(
        name="longmill-train",
        flow=train,
        description="Train on a published manifest; started by a build, once per manifest.",
        queue="train",
        most_runs=1,
    ),
    Deployment(
        name="longmill-evaluate",
        flow=evaluate_recipe,
        description="Compare the policy with a trained model on held-out questions.",
        queue="train",
        parameters=RECIPE,
    ),
    Deployment(
        name="longmill-improve",
        flow=improve_recipe,
        description="Rounds of build, train and evaluate.",
        parameters={**RECIPE, "rounds": 1},
    ),
    Deployment(
        name="longmill-maintain",
        flow=maintain,
        description="Request the training of manifests that were never trained; tidy the ledger.",
        parameters=RECIPE,
        cron="30 * * * *",
    ),
)

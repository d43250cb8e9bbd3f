"""`longmill train`: the policy, on a published dataset or on pairs that others published; or a reward model.

`longmill train MANIFEST` is short for `longmill train policy MANIFEST`.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows.cli.display import AsJson, console, finish, prefect_at, progress_unless_json, table
from flows.recipes import read_recipe
from infra.errors import RecipeError, UsageError
from infra.recipe import Recipe, parse_recipe
from infra.serving.servers import local_folder


class PolicyByDefault(TyperGroup):
    """A group whose first verb, `policy`, may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `policy` before arguments that name no verb of the group."""
        if args and args[0] not in self.commands and args[0] not in self.get_help_option_names(ctx):
            args = ["policy", *args]
        return list(super().parse_args(ctx, args))


train = typer.Typer(cls=PolicyByDefault, help="Train the policy, or a reward model.", no_args_is_help=True)


@train.callback()
def train_group() -> None:
    """Train the policy on pairs (`policy`, which may be left out), or a reward model on judged answers (`reward`)."""


@train.command()
def policy(
    manifest: Annotated[
        str, typer.Argument(help="manifest.json of a dataset, or its folder; or give --data.", metavar="MANIFEST")
    ] = "",
    recipe: Annotated[str, typer.Option(help="Recipe with the training section.")] = "",
    data: Annotated[
        str, typer.Option(help="Others' preference pairs in place of a manifest: file, folder, URL or hub name.")
    ] = "",
    subset: Annotated[str, typer.Option(help="Configuration of the --data on the hub.")] = "",
    split: Annotated[str, typer.Option(help="Split of the --data on the hub or in a folder.")] = "train",
    licence: Annotated[str, typer.Option(help="Licence of the --data, for the model's card.")] = "unknown",
    model: Annotated[
        str, typer.Option(help="With --data and no recipe: train this model folder or hub name with the defaults.")
    ] = "",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a recipe key: --set training.loss=dpo.", metavar="KEY=VALUE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train on a published dataset, or on pairs that others published."""
    if bool(manifest) == bool(data):
        raise UsageError("train: give either MANIFEST or --data")
    if bool(recipe) == bool(model) or (model and manifest):
        raise UsageError("train: give --recipe, or, with --data, --model")
    settings = read_recipe(recipe, changes) if recipe else _recipe_of_model(model, data, licence, changes)
    from flows.cli.views import path_in_store
    from infra.store import open_store
    from tasks.reporting.tables import training_rows
    from tasks.training.external import PairSource, check_fields

    if settings.training is None:
        raise RecipeError(f"{recipe}: the recipe has no `training` section; add one")
    path = path_in_store(settings.store, manifest) if manifest else ""
    pairs = PairSource(data, subset or None, split, licence) if data else None
    if pairs is not None:
        check_fields(pairs)  # before a server or a model starts
    with prefect_at(local_folder(settings.store)), progress_unless_json(as_json):
        from flows.shard import shard_recipe
        from flows.train import train as train_flow
        from flows.train import train_on_pairs

        parameters = shard_recipe(settings)
        trained = train_flow(parameters, path) if pairs is None else train_on_pairs(parameters, pairs.to_json())
    if not as_json:
        console.print(table(pairs.name if pairs else settings.name, *training_rows(trained)))
    finish(as_json, trained, [(model_name(trained), open_store(settings.store).place(trained["model"]))])


@train.command()
def reward(
    manifests: Annotated[
        list[str], typer.Argument(help="Datasets: manifest.json of each, or its folder.", metavar="MANIFEST...")
    ],
    recipe: Annotated[str, typer.Option(help="Recipe with the section reward_training, and the store.")],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a recipe key: --set reward_training.objective=pairwise.", metavar="KEY=VALUE"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a reward model that reads the whole context, on all judged answers of published datasets."""
    settings = read_recipe(recipe, changes)
    from flows.cli.views import path_in_store
    from infra.store import open_store

    paths = [path_in_store(settings.store, manifest) for manifest in manifests]
    with prefect_at(local_folder(settings.store)), progress_unless_json(as_json):
        from flows.shard import shard_recipe
        from flows.train_reward import train_reward

        trained = train_reward(shard_recipe(settings), paths)
    if not as_json:
        from tasks.training.reward.card import held_out_rows, summary_rows

        console.print(table(trained["name"], *summary_rows(trained)))
        console.print(table("", *held_out_rows(trained["figures"])))
    finish(as_json, trained, [("reward model", open_store(settings.store).place(trained["model"]))])


def model_name(trained: dict[str, Any]) -> str:
    """The name, in the last lines of a command, of what the train flow made."""
    return "adapter" if trained["kind"] == "adapter" else "model"


def _recipe_of_model(model: str, data: str, licence: str, changes: list[str] | None) -> Recipe:
    """A recipe that only trains: the defaults for a model, whose questions are those of the pairs."""
    settings = {
        "name": "train",
        "questions": {"source": data},
        "policy": {"name": model, "tokenizer": model, "serve": {"model_path": model}},
        "scoring": {"scorers": []},
        "dataset": {"name": "others", "licence": licence},
        "training": {"dtype": "auto"},
    }
    return parse_recipe(settings, "--model", tuple(changes or ()))

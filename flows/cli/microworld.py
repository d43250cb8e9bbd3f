"""`longmill microworld VERB`: the generated world, for anyone who wants to try a long-context pipeline on it.

Each verb hands its options on; nothing of the world is known here. The verbs that train are in microworld_training.py.
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.display import AsJson, calm, console, finish, table
from flows.cli.microworld_training import train
from tasks.microworld.make import POOL, QUESTIONS, Made, Wanted, people_for, write_contexts, write_pool
from tasks.microworld.words import Split

microworld = typer.Typer(help="The generated world: datasets of any size with gold answers.", no_args_is_help=True)
microworld.add_typer(train, name="train")


@microworld.callback()
def group() -> None:
    """The generated world: datasets of any size with gold answers."""


@microworld.command()
def make(
    out: Annotated[Path, typer.Option(help="Folder for the files.", metavar="FOLDER")],
    questions: Annotated[int, typer.Option(min=1, help="How many questions.")] = 1000,
    tokens: Annotated[int, typer.Option(min=1, help="Longest context, in tokens of the model in the box.")] = 32000,
    hops: Annotated[int, typer.Option(min=1, max=3, help="Facts in the longest chain that a question needs.")] = 2,
    split: Annotated[Split, typer.Option(help="Whose names to use: no name is in two splits.")] = "train",
    seed: Annotated[int, typer.Option(help="Another seed, other worlds.")] = 7,
    people: Annotated[
        int | None, typer.Option(min=4, help="People in a world; without it, as many as the contexts need.")
    ] = None,
    pool: Annotated[
        bool, typer.Option("--pool", help="One world: supporting documents and a pool, for contexts.build: pooled.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a dataset in the factory's input format, with gold answers, evidence and preferences."""
    begun = time.monotonic()
    with calm(as_json):
        if pool:
            made = write_pool(out, questions, seed, people or max(people_for(tokens), questions // 2), hops, split)
        else:
            made = write_contexts(out, Wanted(questions, tokens, hops, seed, split, people))
    files = [("questions", str(out / QUESTIONS))] + ([("pool", str(out / POOL))] if pool else [])
    if not as_json:
        console.print(table(f"microworld, {split}", *_made_rows(made, time.monotonic() - begun)))
    finish(as_json, {**asdict(made), "files": dict(files)}, files)


def _made_rows(made: Made, seconds: float) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of what was made."""
    rows = [("questions", made.questions), *sorted(made.kinds.items()), ("worlds", made.worlds)]
    if made.tokens:
        rows += [("tokens of contexts", made.tokens), ("tokens a second", round(made.tokens / seconds))]
    rows += [(f"rejected: {fault}", number) for fault, number in sorted(made.faults.items())]
    return ["", "count"], [[name, f"{number:,}"] for name, number in rows]

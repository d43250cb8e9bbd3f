"""`longmill push`, `longmill push-model` and `longmill export`: what was made, for others and for other trainers."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.display import AsJson, console, finish, print_notes, progress_unless_json, text_table
from infra.errors import UsageError

if TYPE_CHECKING:
    from infra.hub import Repository
    from tasks.pushing import Pushed

Name = Annotated[str, typer.Argument(help="Repository on the hub.", metavar="ORG/NAME")]
Public = Annotated[bool, typer.Option("--public", help="Let others see it, where the repository is made now.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would be sent, and send nothing.")]
DatasetPlace = Annotated[
    str, typer.Argument(help="Folder or URL of a dataset, as `build` prints it.", metavar="DATASET")
]


def push(
    dataset: DatasetPlace, name: Name, public: Public = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Send a dataset to a model hub, private by default, after hashing every file of its manifest."""
    from infra.hub import Repository
    from tasks.pushing import push_dataset
    from tasks.records.reader import read_dataset

    repository = Repository(name, "dataset", needs_token=not dry_run)
    with progress_unless_json(as_json):
        pushed = push_dataset(read_dataset(dataset), repository, private=not public, dry_run=dry_run)
    _show(pushed, repository, public, as_json)


def push_model(
    model: Annotated[
        str, typer.Argument(help="Folder or URL of a trained model, as `train` prints it.", metavar="ADAPTER")
    ],
    name: Name,
    public: Public = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Send an adapter or a model that was trained here to a model hub, with its card; private by default."""
    from infra.hub import Repository
    from infra.store import open_store
    from tasks.pushing import push_model as push_model_files

    repository = Repository(name, "model", needs_token=not dry_run)
    with progress_unless_json(as_json):
        pushed = push_model_files(open_store(model), "", repository, private=not public, dry_run=dry_run)
    _show(pushed, repository, public, as_json)


def export(
    dataset: Annotated[
        str, typer.Argument(help="Folder or URL of a dataset; without it, the shapes are listed.", metavar="DATASET")
    ] = "",
    shape: Annotated[str, typer.Argument(help="The shape: trl, axolotl, verl, ...", metavar="SHAPE")] = "",
    out: Annotated[str, typer.Option(help="Folder or URL to write to; else DATASET-SHAPE, here.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write a dataset in the shape that another trainer reads, or list the shapes."""
    from tasks.exporting import all_shapes, find_shape

    if not dataset or not shape:
        if dataset:
            raise UsageError(f"export: name a shape: {', '.join(all_shapes())}")
        abouts = {name: described.about for name, described in all_shapes().items()}
        if not as_json:
            console.print(text_table("", [[name, about] for name, about in abouts.items()]))
        finish(as_json, abouts, [])
        return
    from tasks.exporting.export import export as export_dataset
    from tasks.exporting.export import exported_rows
    from tasks.records.reader import read_dataset

    target_shape, source = find_shape(shape), read_dataset(dataset)
    with progress_unless_json(as_json):
        exported = export_dataset(source, target_shape, out or f"{source.manifest['name']}-{target_shape.name}")
    if not as_json:
        console.print(text_table("", list(exported_rows(exported.record))))
        if not exported.is_new:
            print_notes(["this export was there already"])
        for file in exported.record["files"]:
            console.print(file["path"], markup=False)
    finish(as_json, {"folder": exported.folder, **exported.record}, [("export", exported.folder)])


def _show(pushed: "Pushed", repository: "Repository", public: bool, as_json: bool) -> None:
    """Print what was sent, or would be."""
    if not as_json:
        rows = [
            ["repository", f"{pushed.kind} {pushed.repository}, {'private' if pushed.private else 'public'}"],
            ["files to send" if pushed.dry_run else "files sent", f"{len(pushed.sent):,}"],
            ["megabytes", f"{pushed.sent_bytes / 1e6:,.1f}"],
            ["files there already", f"{pushed.there:,}"],
            ["files of an earlier version removed", f"{len(pushed.removed):,}"],
            ["tag", pushed.tag],
            ["sha256 of the manifest", pushed.manifest],
        ]
        console.print(text_table("", rows))
        if pushed.dry_run:
            for path in pushed.sent:
                console.print(path, markup=False, soft_wrap=True)
    notes = []
    if pushed.dry_run and repository.token is None:
        notes.append("without a token the hub was not asked: what is there already is not known")
    if public and pushed.private:
        notes.append(f"{pushed.repository} was there before and is private; it stays so: open it in its settings")
    print_notes(notes)
    finish(as_json, pushed.to_json(), [] if pushed.dry_run else [("hub", pushed.url)])

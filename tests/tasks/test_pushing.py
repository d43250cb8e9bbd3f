"""Pushing sends exactly the dataset, once, privately, in one commit; a changed file or a refusal leaves nothing."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli.app import app
from infra.errors import HubError, InputError, PrerequisiteError, StoreError
from infra.hub import Repository
from infra.store import Store, open_store
from tasks.publishing import publish
from tasks.pushing import Pushed, push_dataset, push_model
from tasks.records.reader import PublishedDataset, open_dataset, read_dataset
from tests.support.hub_stub import TOKEN, Hub, HubRepository, hub
from tests.support.published import fake_plan, fake_recipe
from tests.support.s3 import s3_bucket

pytestmark = pytest.mark.medium

__all__ = ["hub"]
NAME = "lab/fake-pairs"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_bucket(monkeypatch) as url:
        yield url


def published(store: Store, folder: Path, **dataset: Any) -> PublishedDataset:
    recipe = fake_recipe(folder, **dataset)
    return open_dataset(store, publish(*fake_plan(store, recipe), recipe, store).manifest)


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which there is a dataset."""
    folder = tmp_path_factory.mktemp("published")
    published(open_store(str(folder / "mill")), folder)
    return folder


@pytest.fixture
def dataset(mill: Path) -> PublishedDataset:
    (path,) = (mill / "mill/datasets/fake").glob("*/manifest.json")
    return read_dataset(str(path))


def push(dataset: PublishedDataset, **options: Any) -> Pushed:
    return push_dataset(dataset, Repository(NAME, "dataset"), **options)


def test_a_dataset_arrives_whole_and_private_in_one_commit_that_names_its_manifest(
    hub: Hub, dataset: PublishedDataset, tmp_path: Path
) -> None:
    pushed = push(dataset)
    repository = hub.repositories[NAME]
    assert repository.private
    assert pushed.private
    named = {file["path"]: file["sha256"] for file in dataset.manifest["files"]}
    there = {path: hashlib.sha256(content).hexdigest() for path, content in repository.files.items()}
    assert there == {**named, "manifest.json": dataset.sha256}
    ((message, description, _),) = repository.commits
    assert message == f"fake {dataset.manifest['version']}, manifest {dataset.sha256[:16]}"
    assert dataset.sha256 in description
    assert repository.tags == {dataset.manifest["version"]: pushed.commit}
    assert hub.tokens == {f"Bearer {TOKEN}"}
    copy = tmp_path / "download"
    for path, content in repository.files.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes(content)
    assert list(read_dataset(str(copy)).rows("pairs")) == list(dataset.rows("pairs"))


def test_the_card_has_what_the_hubs_viewer_reads(hub: Hub, dataset: PublishedDataset) -> None:
    push(dataset)
    files = hub.repositories[NAME].files
    metadata = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert metadata["license"] == "cc-by-4.0"
    assert metadata["language"] == ["en"]
    assert metadata["size_categories"] == ["n<1K"]
    assert "text-generation" in metadata["task_categories"]
    default, *_ = metadata["configs"]
    assert (default["config_name"], default["default"]) == ("pairs", True)
    for config in metadata["configs"]:
        for split in config["data_files"]:
            assert set(split["path"]) <= files.keys()


def test_the_same_push_again_sends_nothing(hub: Hub, dataset: PublishedDataset) -> None:
    first = push(dataset)
    again = push(dataset)
    assert (again.sent, again.commit, again.there) == ([], "", first.there + len(first.sent))
    assert len(hub.repositories[NAME].commits) == 1


def test_after_a_failure_nothing_is_visible_and_only_the_rest_is_sent(hub: Hub, dataset: PublishedDataset) -> None:
    hub.broken_uploads = 1
    with pytest.raises(HubError, match=r"dataset lab/fake-pairs on the hub: .*; run it again"):
        push(dataset)
    assert hub.repositories[NAME].files == {}
    sent = list(hub.uploads)
    assert sent
    push(dataset)
    assert len(hub.uploads) == len(set(hub.uploads))
    assert set(sent) < set(hub.uploads)


def test_a_new_version_takes_the_place_of_the_old_and_leaves_files_of_others(
    hub: Hub, dataset: PublishedDataset, tmp_path: Path
) -> None:
    push(dataset)
    hub.repositories[NAME].files["NOTICE"] = b"written by a person"
    other = published(open_store(str(tmp_path / "mill")), tmp_path, test_fraction=0.9)
    pushed = push(other)
    named = {file["path"] for file in other.manifest["files"]}
    assert hub.repositories[NAME].files.keys() == {*named, "manifest.json", "NOTICE"}
    assert pushed.removed
    assert hub.repositories[NAME].tags.keys() == {dataset.manifest["version"], other.manifest["version"]}


def test_a_repository_with_files_of_others_is_left_alone(hub: Hub, dataset: PublishedDataset) -> None:
    theirs = {"README.md": b"# theirs", "manifest.json": b'{"files": [{"path": "a.csv"}]}', "a.csv": b"1"}
    hub.repositories[NAME] = HubRepository(private=True, files=dict(theirs))
    with pytest.raises(InputError, match=r"files that no push of Longmill has sent \(a\.csv, manifest\.json\)"):
        push(dataset)
    assert hub.repositories[NAME].files == theirs
    hub.repositories[NAME].files = {".gitattributes": b"", "README.md": b"made by the hub's page"}
    assert "README.md" in push(dataset).sent


def test_nothing_goes_to_a_public_repository_unasked(hub: Hub, dataset: PublishedDataset) -> None:
    hub.repositories[NAME] = HubRepository(private=False)
    with pytest.raises(InputError, match="public; give --public"):
        push(dataset)
    assert hub.repositories[NAME].files == {}
    assert not push(dataset, private=False).private
    assert hub.repositories[NAME].files


def test_a_changed_file_is_found_before_anything_is_sent(hub: Hub, dataset: PublishedDataset, tmp_path: Path) -> None:
    copy = shutil.copytree(dataset.place, tmp_path / "copy")
    path = copy / dataset.manifest["files"][-2]["path"]
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(StoreError, match="its bytes are not those that were written"):
        push(read_dataset(str(copy)))
    assert hub.writes == 0


def test_a_dry_run_lists_what_would_go_and_changes_nothing(
    hub: Hub, dataset: PublishedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = push(dataset, dry_run=True, private=False)
    assert sorted(pushed.sent) == sorted([*(file["path"] for file in dataset.manifest["files"]), "manifest.json"])
    assert not pushed.private
    assert hub.writes == 0
    monkeypatch.delenv("HF_TOKEN")
    without_token = CliRunner().invoke(app, ["push", dataset.place, NAME, "--dry-run"])
    assert without_token.exit_code == 0
    assert "manifest.json" in without_token.output
    assert "without a token the hub was not asked" in without_token.output
    with pytest.raises(PrerequisiteError, match="export HF_TOKEN=") as missing:
        Repository(NAME, "dataset")
    assert missing.value.page == HubError.page


def test_a_licence_that_the_hub_has_not_is_said_and_the_token_is_not(hub: Hub, dataset: PublishedDataset) -> None:
    hub.licences = (TOKEN,)
    with pytest.raises(HubError, match=r"dataset\.licence") as failed:
        push(dataset)
    assert '"license" must be one of' in str(failed.value)
    assert TOKEN not in str(failed.value)
    with pytest.raises(InputError, match="ORG/NAME"):
        Repository("https://example.org/lab/x", "dataset")


def test_a_public_push_of_a_private_repository_says_that_it_stays_private(hub: Hub, dataset: PublishedDataset) -> None:
    push(dataset)
    ended = CliRunner().invoke(app, ["push", dataset.place, NAME, "--public"])
    assert ended.exit_code == 0, ended.output
    assert "is private; it stays so" in ended.output
    assert TOKEN not in ended.output


def test_a_dataset_in_object_storage_arrives_the_same(hub: Hub, bucket: str, dataset: PublishedDataset) -> None:
    open_store(f"{bucket}/mill").upload_folder(Path(dataset.place), "datasets/fake/1")
    push(read_dataset(f"{bucket}/mill/datasets/fake/1"))
    assert hub.repositories[NAME].files["manifest.json"] == dataset.store.read("manifest.json")
    named = json.loads(hub.repositories[NAME].files["manifest.json"])["files"]
    assert hub.repositories[NAME].files.keys() == {*(file["path"] for file in named), "manifest.json"}


def test_a_model_goes_with_its_card_without_checkpoints_and_folders_of_this_machine(hub: Hub, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "mill"))
    model = "models/fake/0123456789abcdef"
    result = {"name": "fake-0123456789abcdef", "revision": "0123456789abcdef", "kind": "adapter", "loss": "dpo"}
    card = "---\nlicense: apache-2.0\nmodel-index:\n- name: fake\n  results: []\n---\n# fake\n"
    with pytest.raises(InputError, match="no trained model there"):
        push_model(store, model, Repository(NAME, "model"))
    for path, content in {
        "result.json": json.dumps(result),
        "README.md": card,
        "adapter_config.json": "{}",
        "adapter_model.safetensors": "weights",
        "metrics.parquet": "steps",
        "job.json": json.dumps({"base": "/home/somebody/models/base"}),
        "checkpoints/4/adapter_model.safetensors": "earlier weights",
    }.items():
        store.write(f"{model}/{path}", content.encode())
    push_model(store, model, Repository(NAME, "model"))
    files = hub.repositories[NAME].files
    assert files["README.md"].decode() == card
    assert files["adapter_model.safetensors"] == b"weights"
    assert json.loads(files["job.json"]) == {"base": "base"}
    assert not [path for path in files if path.startswith("checkpoints/")]
    manifest = json.loads(files["manifest.json"])
    for file in manifest["files"]:
        assert hashlib.sha256(files[file["path"]]).hexdigest() == file["sha256"]
    again = CliRunner().invoke(app, ["push-model", store.place(model), NAME, "--json"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["sent"] == []

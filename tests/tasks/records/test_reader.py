"""Reading a published dataset: from its folder alone, every file hashed."""

import shutil
from pathlib import Path

import pytest

from infra.errors import InputError, StoreError
from infra.store import open_store
from tasks.records.reader import read_dataset
from tasks.reporting.prompt_context import context_in
from tests.support.longreward import CONTEXT, longreward_recipe, publish_longreward

pytestmark = pytest.mark.medium


def published(folder: Path) -> Path:
    done = publish_longreward(open_store(str(folder)), longreward_recipe(folder))
    return Path(done.folder)


def test_a_dataset_is_found_by_folder_manifest_or_the_latest_of_its_versions(tmp_path: Path) -> None:
    folder = published(tmp_path / "mill")
    places = [str(folder), f"{folder}/", f"{folder}/manifest.json", str(folder.parent), f"file://{folder}"]
    assert {read_dataset(place).manifest["version"] for place in places} == {folder.name}
    with pytest.raises(InputError, match=r"no manifest\.json"):
        read_dataset(str(tmp_path))


def test_the_folder_alone_is_enough(tmp_path: Path) -> None:
    folder = published(tmp_path / "mill")
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(tmp_path / "mill")
    dataset = read_dataset(str(tmp_path / "copy"))
    (pair,) = dataset.rows("pairs")
    assert context_in(pair["prompt"], pair) == CONTEXT
    assert [row["split"] for row in dataset.rows("evidence", ("sample_index",))] == ["train"] * 4
    assert dataset.weights == dict.fromkeys(("helpfulness", "logicality", "completeness", "faithfulness"), 1.0)


def test_a_changed_file_is_never_read(tmp_path: Path) -> None:
    folder = published(tmp_path)
    (path,) = folder.glob("evidence/train/*.parquet")
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"evidence/train/.*its bytes are not those that were written"):
        next(read_dataset(str(folder)).rows("evidence"))
    assert list(read_dataset(str(folder)).rows("pairs"))

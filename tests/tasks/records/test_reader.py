"""Reading a published dataset: from its folder alone, hashed, and its contexts found again in the prompts."""

import shutil
from pathlib import Path

import pytest

from infra.canonical import text_id
from infra.errors import InputError, StoreError
from infra.store import open_store
from tasks.records.reader import context_in, read_dataset
from tests.support.longreward import CONTEXT, QUESTION, longreward_recipe, publish_longreward


def published(folder: Path) -> Path:
    done = publish_longreward(open_store(str(folder)), longreward_recipe(folder))
    return Path(done.folder)


def row(prompt_context: str = CONTEXT) -> dict[str, str]:
    return {"strategy": "default", "language": "en", "question": QUESTION, "context_id": text_id(prompt_context)}


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
    assert context_in(pair["prompt"][-1]["content"], pair) == CONTEXT
    assert [each["split"] for each in dataset.rows("evidence", ("sample_index",))] == ["train"] * 4
    assert dataset.weights == dict.fromkeys(("helpfulness", "logicality", "completeness", "faithfulness"), 1.0)


def test_a_changed_file_is_never_read(tmp_path: Path) -> None:
    folder = published(tmp_path)
    (path,) = folder.glob("evidence/train/*.parquet")
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"evidence/train/.*changed after it was published"):
        next(read_dataset(str(folder)).rows("evidence"))
    assert list(read_dataset(str(folder)).rows("pairs"))


@pytest.mark.parametrize("context", [CONTEXT, "one line", "\n\nedges\n\n", "Question: {question}\n\nx\n\nQuestion: y"])
def test_a_context_is_found_under_another_prompt_than_todays(context: str) -> None:
    for before, after in (("Another text.\nRead:\n", f"\nNow: {QUESTION}\nGo."), ("", ""), ("a\n" * 60, "\nb" * 60)):
        assert context_in(f"{before}{context}{after}", row(context)) == context


def test_no_other_text_passes_for_the_context() -> None:
    prompt = f"Read the following text and answer the question at the end of it.\n\n{CONTEXT}x\n\nQuestion: {QUESTION}"
    assert context_in(prompt, row()) is None
    assert context_in(prompt, row() | {"strategy": "../../secret"}) is None

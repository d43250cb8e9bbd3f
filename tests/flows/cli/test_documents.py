"""What a person sees of a folder of documents before questions are asked about it."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli.app import app
from tests.support.document_files import web_page
from tests.support.planning import small_recipe

TEXT = "The council of Harlow met on Monday and agreed to mend the old bridge before winter came. " * 4


def printed(*words: str) -> str:
    ended = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def folder_of_documents(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a.md").write_text(f"# Bridge\n\n{TEXT}")
    (folder / "b.html").write_text(web_page([("One", [TEXT + "It cost much."])], title="Costs"))
    (folder / "c.txt").write_bytes(b"\0\1\2" * 100)
    return folder


@pytest.mark.medium
def test_a_folder_is_counted_by_format_and_language_with_its_drops(tmp_path: Path) -> None:
    folder = folder_of_documents(tmp_path / "documents")
    view = json.loads(printed("documents", str(folder), "--json"))
    assert view["documents"] == 1 + 1 - len([1 for name in view["drops"] if name == "near_duplicate"])
    assert view["drops"]["binary"] == {"documents": 1, "first": "c.txt: holds zero bytes as no text does"}
    assert view["first"]["headings"] == ["Bridge"]
    assert view["tokens"] is None
    output = printed("documents", str(folder))
    assert "dropped 1 as binary, the first: c.txt" in output
    assert "The council of Harlow" in output
    assert "tokens" not in output  # which are a tokenizer's, and a folder names none


def test_a_recipe_counts_the_tokens_of_its_policy(tmp_path: Path) -> None:
    folder = folder_of_documents(tmp_path / "documents")
    recipe = small_recipe(tmp_path, [], documents={"source": str(folder), "near_duplicates": None})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    view = json.loads(printed("documents", str(tmp_path / "recipe.yaml"), "--set", "documents.limit=1", "--json"))
    assert (view["documents"], view["by_format"].keys()) == (1, {"markdown"})
    assert view["tokens"] > 50


def test_formats_are_listed() -> None:
    assert ".docx: Word documents" in printed("documents")

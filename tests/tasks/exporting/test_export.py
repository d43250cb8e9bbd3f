"""Exports hold every pair once, in the shape that its trainer reads; what a shape cannot take is counted."""

import ast
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from trl.data_utils import is_conversational, maybe_apply_chat_template, unpair_preference_dataset
from typer.testing import CliRunner

from flows.cli.app import app
from infra.errors import BalanceError, InputError
from infra.models.tokens import load_tokenizer
from infra.store import open_store
from tasks.exporting import Converted, Shape, all_shapes, find_shape
from tasks.exporting.export import Exported, RowsFile, export
from tasks.exporting.shape import calls_tools
from tasks.publishing import publish
from tasks.records.reader import SPLITS, PublishedDataset, open_dataset
from tasks.sub_em import sub_em
from tests.support.published import fake_plan, fake_recipe

ANSWERS = ("答案：它是三。", "Answer: it is 4.", "<b>It is 5</b>\u2028so.")
CALL = {"id": "1", "function": {"arguments": {"q": "码头"}, "name": "look_up"}, "type": "function"}
CALLING: list[dict[str, Any]] = [
    {"role": "user", "content": "When?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "4 May", "tool_call_id": "1", "name": "look_up"},
]
USER, MODEL = {"role": "user", "content": "What was decided?"}, {"role": "assistant", "content": "That it opens."}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PublishedDataset:
    """Questions with one to three pairs, some of whose answers have the same text."""
    folder = tmp_path_factory.mktemp("published")
    recipe, store = fake_recipe(folder, pairs=3), open_store(str(folder / "mill"))
    published = publish(*fake_plan(store, recipe, texts=ANSWERS, questions=12), recipe, store)
    return open_dataset(store, published.manifest)


def exported(dataset: PublishedDataset, name: str, folder: Path) -> Exported:
    return export(dataset, find_shape(name), str(folder / name))


def rows_of(made: Exported, split: str = "train") -> list[dict[str, Any]]:
    """The rows as `datasets` reads them."""
    (file,) = (file["path"] for file in made.record["files"] if file["path"].startswith(f"{split}."))
    path, kind = str(Path(made.folder) / file), "parquet" if file.endswith("parquet") else "json"
    rows = datasets.load_dataset(kind, data_files=path, split="train", cache_dir=str(Path(made.folder).parent / "c"))
    return list(rows)


def pair(**fields: Any) -> dict[str, Any]:
    row = {"prompt": [USER], "chosen": [MODEL], "rejected": [{"role": "assistant", "content": "No."}], "margin": 0.5}
    return {**row, "example_id": "q", "question": "?", "references": ["x"], "kind": "qa", "language": "en", **fields}


def rows_from(name: str, *pairs: dict[str, Any]) -> list[dict[str, Any]]:
    return find_shape(name).convert(pairs, "train").rows


@pytest.mark.parametrize("name", list(all_shapes()))
def test_every_unit_is_in_a_row_or_left_out_with_a_reason(name: str, dataset: PublishedDataset, tmp_path: Path) -> None:
    made = exported(dataset, name, tmp_path)
    pairs = list(dataset.rows("pairs", ["example_id"]))
    for split in SPLITS:
        of_split = [row["example_id"] for row in pairs if row["split"] == split]
        units = {"pairs": len(of_split), "answers": 2 * len(of_split), "questions": len(set(of_split))}
        counts = made.record["splits"][split]
        assert counts["units"] == units[made.record["unit"]]
        assert counts["units"] == counts["rows"] + sum(counts["left_out"].values())
        assert counts["rows"] == len(rows_of(made, split))
    assert made.is_new
    assert not exported(dataset, name, tmp_path).is_new


def test_trl_takes_the_pairs_and_its_own_unpairing_gives_the_kto_rows(
    dataset: PublishedDataset, tmp_path: Path
) -> None:
    made = exported(dataset, "trl", tmp_path)
    rows = rows_of(made)
    source = [row for row in dataset.rows("pairs", ["prompt", "chosen", "rejected"]) if row["split"] == "train"]
    assert [{**row, "split": "train"} for row in rows] == source
    assert all(map(is_conversational, rows))
    text = maybe_apply_chat_template(rows[0], load_tokenizer("microworld", False))
    assert rows[0]["chosen"][0]["content"] in text["chosen"]
    answers = unpair_preference_dataset(datasets.Dataset.from_list(rows))
    by_trl = set(map(texts_of, answers))
    own = list(map(texts_of, rows_of(exported(dataset, "kto", tmp_path))))
    assert len(own) == len(set(own))
    both = {(prompt, text) for prompt, text, label in by_trl if (prompt, text, not label) in by_trl}
    assert set(own) == {row for row in by_trl if row[:2] not in both}
    assert both, "the case is not tested"


def texts_of(row: dict[str, Any]) -> tuple[str, str, bool]:
    return row["prompt"][0]["content"], row["completion"][0]["content"], row["label"]


def test_plain_texts_stand_behind_one_another_and_a_conversation_is_left_out() -> None:
    (row,) = rows_from("trl-text", pair())
    assert row["prompt"] + row["chosen"] == "What was decided?\n\nThat it opens."
    converted = find_shape("trl-text").convert([pair(prompt=[USER, MODEL, USER])], "train")
    assert (converted.rows, dict(converted.left_out)) == ([], {"several_messages": 1})


def test_a_history_stays_messages() -> None:
    system = {"role": "system", "content": "请用中文回答。"}
    history = pair(prompt=[system, USER, MODEL, USER])
    assert rows_from("trl", history)[0]["prompt"] == [system, USER, MODEL, USER]
    assert rows_from("axolotl", history)[0]["messages"] == [system, USER, MODEL, USER]
    assert rows_from("swift", history)[0]["messages"] == [system, USER, MODEL, USER, MODEL]
    (row,) = rows_from("llama-factory", history)
    assert row["system"] == "请用中文回答。"
    assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt", "human"]
    converted = find_shape("llama-factory").convert([pair(prompt=[USER, USER])], "train")
    assert dict(converted.left_out) == {"order_of_turns": 1}


def test_tools_go_where_the_shape_has_a_place_for_them() -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "description": "码头", "parameters": {}}}]
    for name in ("trl", "reward", "kto"):
        assert rows_from(name, pair(prompt=CALLING, tools=tools))[0]["tools"] == tools
    for name in ("swift", "llama-factory"):
        assert json.loads(rows_from(name, pair(prompt=CALLING, tools=tools))[0]["tools"]) == tools
    (row,) = rows_from("llama-factory", pair(prompt=CALLING, tools=tools))
    assert [turn["from"] for turn in row["conversations"]] == ["human", "function_call", "observation"]
    assert json.loads(row["conversations"][1]["value"]) == [{"name": "look_up", "arguments": {"q": "码头"}}]
    assert rows_from("swift", pair(prompt=CALLING, tools=tools))[0]["messages"][:3] == CALLING


@pytest.mark.parametrize("name", list(all_shapes()))
def test_prompts_with_tool_calls_are_exported_whole_or_left_out(name: str, tmp_path: Path) -> None:
    """Of a dataset whose prompts are JSON, as those with tool calls are."""
    rows = [pair(prompt=CALLING, tools=[{"type": "function"}]), pair(example_id="r", tools=None)]
    plain = pa.Table.from_pylist([pair(tools="")]).schema
    of_json = {"prompt": pa.list_(pa.json_()), "tools": pa.json_()}
    source = pa.schema([column.with_type(of_json.get(column.name, column.type)) for column in plain])
    shape = find_shape(name)
    path = tmp_path / "rows.parquet"
    with RowsFile(path, shape, source) as file:
        for row in rows:
            if shape.takes_tools or not calls_tools(row):
                file.add(shape.convert([row], "train"))
    if shape.schema is not None and name not in ("trl-text", "verl"):
        first = next(iter(datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "c"))))
        assert first["prompt"] == CALLING
        assert first["tools"] == [{"type": "function"}]
    left_out = sum(calls_tools(row) for row in rows) if not shape.takes_tools else 0
    assert left_out == (name in ("axolotl", "trl-text", "verl"))


def test_llama_factory_and_axolotl_get_the_lines_that_describe_their_files(
    dataset: PublishedDataset, tmp_path: Path
) -> None:
    made = exported(dataset, "llama-factory", tmp_path)
    info = json.loads((Path(made.folder) / "dataset_info.json").read_text())
    assert info.keys() == {"fake", "fake_test"}
    for described in info.values():
        (first, *_) = (Path(made.folder) / described["file_name"]).read_text(encoding="utf-8").split("\n")
        assert set(described["columns"].values()) <= json.loads(first).keys()
        assert (described["formatting"], described["ranking"]) == ("sharegpt", True)
    made = exported(dataset, "axolotl", tmp_path)
    configuration = yaml.safe_load((Path(made.folder) / "axolotl.yaml").read_text())
    assert configuration["datasets"][0]["path"] == "train.jsonl"
    assert configuration["test_datasets"][0]["path"] == "test.jsonl"
    row = rows_of(made)[0]
    assert row.keys() == {configuration["datasets"][0][f"field_{name}"] for name in ("messages", "chosen", "rejected")}


def test_the_reward_file_of_an_export_scores_as_longmill_without_it(dataset: PublishedDataset, tmp_path: Path) -> None:
    made = exported(dataset, "verl", tmp_path)
    source = (Path(made.folder) / "reward.py").read_text(encoding="utf-8")
    imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert imported == {"collections.abc", "functools"}
    names: dict[str, Any] = {}
    exec(compile(source, "reward.py", "exec"), names)
    score = names["compute_score"]
    schema = pq.read_schema(Path(made.folder) / "train.parquet")
    assert schema.names == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
    for row in rows_of(made):
        assert row["extra_info"]["reward_function"] == "compute_score"
        truth = row["reward_model"]["ground_truth"]
        for text in ANSWERS:
            assert score(row["data_source"], text, truth, row["extra_info"]) == sub_em(text, truth)
    assert score("", "Oslo and Bergen", ["Oslo", "Bergen"], {"kind": "list"}) == 1.0
    assert score("", "Oslo", ["Oslo", "Bergen"], {"kind": "list"}) == 0.0
    assert score("", "它在奥斯陆。", "奥斯陆") == 1.0
    left_out = find_shape("verl").convert([pair(references=["?!"])], "train").left_out
    assert dict(left_out) == {"no_reference": 1}


def test_a_place_with_other_files_is_left_alone(dataset: PublishedDataset, tmp_path: Path) -> None:
    (tmp_path / "trl").mkdir()
    (tmp_path / "trl/train.parquet").write_text("mine")
    with pytest.raises(InputError, match="there are other files"):
        exported(dataset, "trl", tmp_path)
    assert (tmp_path / "trl/train.parquet").read_text() == "mine"


def test_a_shape_that_loses_a_pair_exports_nothing(dataset: PublishedDataset, tmp_path: Path) -> None:
    lossy = Shape("lossy", "", "pairs", lambda pairs, split: Converted())
    with pytest.raises(BalanceError, match="nothing is exported"):
        export(dataset, lossy, str(tmp_path / "lossy"))
    assert not (tmp_path / "lossy/export.json").exists()


def test_the_verb_lists_the_shapes_and_writes_one(dataset: PublishedDataset, folder: Path) -> None:
    listed = CliRunner().invoke(app, ["export", "--json"])
    assert json.loads(listed.stdout).keys() == all_shapes().keys()
    made = CliRunner().invoke(app, ["export", dataset.place, "reward"])
    assert made.exit_code == 0, made.output
    rows = datasets.Dataset.from_parquet(str(folder / "fake-reward/train.parquet"), cache_dir=str(folder / "cache"))
    assert rows.column_names == ["prompt", "chosen", "rejected", "margin"]
    assert min(rows["margin"]) > 0
    unclear = CliRunner().invoke(app, ["export", dataset.place, "nothing"])
    assert isinstance(unclear.exception, InputError)
    assert "llama-factory" in str(unclear.exception)

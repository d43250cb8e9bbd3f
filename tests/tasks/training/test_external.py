"""Others' pairs: every row is a pair or a counted drop, their hash is of the rows, and a wrong file is named."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import InputError, TrainingError
from tasks.training.external import ExternalPairs, PairSource, all_drops, check_fields, read_external_pairs
from tasks.training.gate import EncodedTree, gate
from tests.support.tiny_model import TEMPLATE, tiny_tokenizer


def _rows(count: int = 3) -> list[dict[str, Any]]:
    return [{"prompt": f"{number}?", "chosen": f"yes {number}", "rejected": "no"} for number in range(count)]


def _file(folder: Path, rows: Sequence[Any], name: str = "pairs.jsonl") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if name.endswith(".json"):
        text = json.dumps(rows)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


def _read(folder: Path, rows: Sequence[Any], **options: Any) -> ExternalPairs:
    return read_external_pairs(PairSource(_file(folder, rows), **options))


def test_bad_rows_are_counted_by_their_reasons_and_the_others_keep_their_order(tmp_path: Path) -> None:
    bad = [{"prompt": "a", "chosen": "b"}, {"prompt": "a", "chosen": "b", "rejected": "b"}, _rows()[0]]
    data = _read(tmp_path, [bad[1], *_rows(), *bad])
    assert (data.source_rows, data.rows, data.questions) == (7, 3, 3)
    assert data.drops == {"duplicate": 1, "missing_field": 1, "same_text": 2}
    assert [row["prompt"][0]["content"] for row in data.pairs()] == ["0?", "1?", "2?"]
    assert next(iter(data.pairs()))["example_id"] == "pairs.jsonl, row 2"


def test_neighbours_with_one_prompt_are_one_question_and_share_it(tmp_path: Path) -> None:
    row = _rows(1)[0]
    data = _read(tmp_path, [row, {**row, "rejected": "maybe"}, *_rows(2)[1:], {**row, "rejected": "perhaps"}])
    trees: list[EncodedTree] = []
    lengths = gate(data.pairs(), tiny_tokenizer(), 100, add=trees.append, unfit="drop")
    assert (lengths.rows, lengths.pairs) == (data.questions, data.rows) == (3, 4)
    assert [tree.pairs for tree in trees] == [[(0, 1), (0, 2)], [(0, 1)], [(0, 1)]]


def test_the_hash_is_of_the_rows_whatever_file_they_are_in(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [*_rows(), {"prompt": "a", "chosen": "b", "rejected": "b"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    _file(tmp_path, rows, "folder/train.jsonl")
    sources = [_file(tmp_path, rows, name) for name in ("pairs.jsonl", "pairs.jsonl.gz", "pairs.json")]
    sources += [str(tmp_path / "pairs.parquet"), str(tmp_path / "folder")]
    contents = {read_external_pairs(PairSource(source)).content for source in sources}
    assert len(contents) == 1
    assert _read(tmp_path, rows[:-1]).content not in contents  # a row that is dropped counts too
    assert _read(tmp_path, rows[::-1]).content not in contents


def test_a_split_of_a_folder_is_read_as_its_card_says(tmp_path: Path) -> None:
    _file(tmp_path, _rows(2), "set/dpo-glm4-9b.jsonl")
    _file(tmp_path, [{"prompt": "a", "chosen": "b", "rejected": ""}], "set/sft.jsonl")
    files = "\n".join(f"  - split: {split}\n    path: {path}" for split, path in _SPLITS.items())
    (tmp_path / "set/README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}\n---\n")
    source = str(tmp_path / "set")
    data = read_external_pairs(PairSource(source, split="dpo_glm4_9b"))
    assert (data.rows, data.name, data.source.cited) == (2, "set", "set")
    with pytest.raises(InputError, match=r"no split 'train'; it has dpo_glm4_9b, sft: set `split`"):
        read_external_pairs(PairSource(source))
    with pytest.raises(InputError, match=r"none of its 1 rows .*rejected is empty"):
        read_external_pairs(PairSource(source, split="sft"))


_SPLITS = {"sft": "sft.jsonl", "dpo_glm4_9b": "dpo-glm4-9b.jsonl"}


def test_a_hub_that_cannot_be_reached_is_named_with_the_way_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"owner/pairs: .*the hub cannot be reached.*give its folder"):
        check_fields(PairSource("owner/pairs"))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"question": "a", "answer": "b"}], "its first row has answer, question; a row needs prompt, chosen"),
        ([{"prompt": "a", "completion": "b", "label": True}], "its first row has completion, label, prompt"),
        ([{"chosen": "b", "rejected": "c"}] * 5, r"none of its 5 rows .*row 1: prompt is missing; .*; a row needs"),
    ],
)
def test_a_file_of_other_rows_is_refused_with_what_it_has_and_what_is_accepted(
    tmp_path: Path, rows: list[Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        _read(tmp_path, rows)


def test_a_file_that_changes_while_it_is_read_stops_the_run(tmp_path: Path) -> None:
    data = _read(tmp_path, _rows(4))
    for changed in (_rows(3), _rows(5), _rows(4)[::-1], [*_rows(3), {"prompt": "a", "chosen": "b"}]):
        _file(tmp_path, changed)
        with pytest.raises(InputError, match="changed while it was read"):
            list(data.pairs())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/somebody/data/my pairs.jsonl.gz", "my-pairs"),
        ("THUDM/LongReward-10k", "LongReward-10k"),
        ("s3://bucket/sets/v1.2.parquet", "v1.2"),
        ("/data/..", "pairs"),
    ],
)
def test_the_model_is_named_by_the_last_part_of_the_source(source: str, name: str) -> None:
    assert PairSource(source).name == name


def test_what_is_published_names_no_folder(tmp_path: Path) -> None:
    data = _read(tmp_path, _rows(), licence="apache-2.0")
    assert data.summary()["source"] == "pairs.jsonl" and data.licence == "apache-2.0"
    assert str(tmp_path) not in json.dumps(data.summary())
    assert _read(tmp_path, _rows()).licence is None


_TEXTS = st.sampled_from(["", " ", "a", "b", "word " * 30, "<bos>x", "x<eos>", "\ud800", None, 3])
_CONVERSATIONS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "x"]), "content": _TEXTS}),
    max_size=3,
)
_ROWS = st.dictionaries(st.sampled_from(["prompt", "chosen", "rejected", "images"]), _TEXTS | _CONVERSATIONS)


@pytest.mark.medium
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(_ROWS, max_size=12))
def test_every_row_is_trained_on_or_a_counted_drop(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    good = [*_rows(2), {"prompt": "word " * 30, "chosen": "a", "rejected": "b"}]
    data = _read(tmp_path_factory.mktemp("rows"), [*good, *rows])
    trees: list[EncodedTree] = []
    try:
        lengths = gate(data.pairs(), tiny_tokenizer(), 100, add=trees.append, over_length="drop", unfit="drop")
    except TrainingError as error:
        assert "more than half" in str(error)
        return
    assert data.source_rows == len(good) + len(rows) == lengths.pairs + sum(all_drops(data, lengths).values())
    assert lengths.pairs == sum(len(tree.pairs) for tree in trees)
    assert all_drops(data, lengths)["too_long"] >= 1


@pytest.mark.parametrize(
    ("row", "template", "reason"),
    [
        ({"prompt": "<bos><user>a<assistant>", "chosen": "b", "rejected": "c"}, TEMPLATE, "rendered_before"),
        ({"prompt": "a", "chosen": "b<eos>", "rejected": "c"}, TEMPLATE, "rendered_before"),
        (
            {
                "prompt": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}],
                "chosen": "c",
                "rejected": "d",
            },
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system messages') }}{% endif %}" + TEMPLATE,
            "template_refuses",
        ),
        (
            {"prompt": "strange", "chosen": "c", "rejected": "d"},
            "{% if messages[0]['content'] == 'strange' %}{{ messages | length }}{% endif %}" + TEMPLATE,
            "template_differs",
        ),
        (
            {"prompt": "twice", "chosen": "c", "rejected": "d"},
            "{% if messages[0]['content'] == 'twice' %}<bos>{% endif %}" + TEMPLATE,
            "doubled_first_token",
        ),
    ],
)
def test_what_the_base_models_template_spoils_is_a_counted_drop(
    tmp_path: Path, row: dict[str, Any], template: str, reason: str
) -> None:
    data = _read(tmp_path, [*_rows(2), row])
    lengths = gate(data.pairs(), tiny_tokenizer(template), 200, unfit="drop")
    assert (lengths.pairs, lengths.unfit) == (2, {reason: 1})
    lone = _read(tmp_path, [row])
    with pytest.raises(
        TrainingError, match=r"1 of 1 pairs cannot be trained on, more than half; .*pairs\.jsonl, row 1"
    ):
        gate(lone.pairs(), tiny_tokenizer(template), 200, unfit="drop")

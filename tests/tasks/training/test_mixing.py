"""Short-context pairs: every format becomes the same rows, the draw is fair and seeded, bad rows stop the run."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import InputError, TrainingError
from infra.recipe import Mix, Training
from infra.store import open_store
from tasks.training.card import model_card
from tasks.training.gate import Lengths
from tasks.training.job import TrainingJob, job_id, train
from tasks.training.mixing import MixSummary, ShortPairs, read_short_pairs
from tasks.training.published import TrainSplit, read_train_split
from tasks.training.settings import RunConfig
from tests.support.tiny_model import pair_rows, publish_rows, save_tiny

STORE = open_store("mill")
USER = {"role": "user", "content": "2 + 2?"}
FOUR, FIVE = {"role": "assistant", "content": "4"}, {"role": "assistant", "content": "5"}
PAIR = {"prompt": [USER], "chosen": [FOUR], "rejected": [FIVE]}
PLAIN = {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}


def _file(folder: Path, rows: list[Any], name: str = "short.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _numbered(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"{number}?", "chosen": f"yes {number}", "rejected": "no"} for number in range(count)]


def _read(folder: Path, rows: list[Any], **settings: Any) -> ShortPairs:
    short = read_short_pairs(Mix.model_validate({"source": str(_file(folder, rows)), **settings}))
    assert short is not None
    return short


def _prompts(short: ShortPairs, long_rows: int, seed: int = 0) -> list[str]:
    return [row["prompt"][0]["content"] for row in short.draw(long_rows, seed)]


@pytest.mark.parametrize(
    "row",
    [
        PLAIN,
        PAIR,
        {"chosen": [USER, FOUR], "rejected": [USER, FIVE]},
        {"prompt": "2 + 2?", "chosen": [USER, FOUR], "rejected": [USER, FIVE], "score_chosen": 8.0},
        {"prompt": "2 + 2?", "chosen": [FOUR | {"tool_calls": None}], "rejected": "5"},
    ],
    ids=["plain", "conversational", "implicit prompt", "prompt twice", "mixed"],
)
def test_each_preference_format_becomes_the_same_row(tmp_path: Path, row: dict[str, Any]) -> None:
    assert list(_read(tmp_path, [row]).draw(1, 0)) == [{"example_id": "short.jsonl, row 1", **PAIR}]


def test_several_turns_before_the_answer_are_the_prompt(tmp_path: Path) -> None:
    conversation = [{"role": "system", "content": "Be short."}, USER, FIVE, {"role": "user", "content": "Sure?"}]
    row = next(_read(tmp_path, [{"chosen": [*conversation, FOUR], "rejected": [*conversation, FIVE]}]).draw(1, 0))
    assert (row["prompt"], row["chosen"], row["rejected"]) == (conversation, [FOUR], [FIVE])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "a", "chosen": "b"}, "rejected is missing"),
        ({"chosen": "b", "rejected": "c"}, "prompt is missing"),
        ({**PLAIN, "chosen": " \n"}, "chosen is empty"),
        ({**PLAIN, "rejected": "4"}, "chosen and rejected are the same text"),
        ({**PLAIN, "chosen": 4}, "chosen is neither a text nor a list of messages"),
        ({**PLAIN, "chosen": []}, "chosen is neither a text nor a list of messages"),
        ({**PLAIN, "chosen": "\ud800"}, "chosen holds a lone surrogate"),
        ({**PAIR, "chosen": [{"role": "king", "content": "4"}]}, "role is 'king'"),
        ({**PAIR, "chosen": [{"role": "assistant", "content": None}]}, "chosen has a message without text"),
        ({**PAIR, "chosen": [FOUR, USER, FOUR]}, "chosen must be one message of the assistant"),
        ({**PAIR, "prompt": [USER, FOUR]}, "must end with a message of the user"),
        ({"chosen": [USER, FOUR], "rejected": [USER]}, "must be one message of the assistant"),
        ({"chosen": [USER, FOUR], "rejected": [{**USER, "content": "3?"}, FIVE]}, "must be one message"),
    ],
)
def test_an_unusable_row_is_named_with_what_is_wrong(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=rf"training\.mix: 1 of 2 rows .*short\.jsonl, row 2: .*{words}"):
        _read(tmp_path, [PLAIN, row])


def test_of_many_unusable_rows_the_first_are_named_and_all_are_counted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"9 of 10 rows .*row 1: .*row 2: .*row 3: (?!.*row 4)"):
        _read(tmp_path, [*[{"prompt": "a"}] * 9, PLAIN])


def test_a_source_that_is_not_there_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"training\.mix: .*nowhere\.jsonl: there is no such file"):
        read_short_pairs(Mix(source=str(tmp_path / "nowhere.jsonl")))


def test_no_row_comes_twice_before_all_have_come(tmp_path: Path) -> None:
    short = _read(tmp_path, _numbered(10))
    everyone = {f"{number}?" for number in range(10)}
    assert Counter(_prompts(short, 4)).most_common(1)[0][1] == 1 and len(_prompts(short, 4)) == 4
    assert set(_prompts(short, 10)) == everyone and len(_prompts(short, 10)) == 10
    counts = Counter(_prompts(short, 23))
    assert set(counts) == everyone and sorted(counts.values()) == [2] * 7 + [3] * 3


def test_the_draw_is_a_matter_of_the_seed_alone(tmp_path: Path) -> None:
    short = _read(tmp_path, _numbered(30))
    assert _prompts(short, 8, seed=1) == _prompts(short, 8, seed=1)
    assert len({tuple(_prompts(short, 8, seed)) for seed in range(5)}) == 5


@given(st.integers(0, 500), st.sampled_from([0.001, 0.5, 1.0, 1.5, 7.0]))
def test_the_ratio_is_short_rows_for_each_long_one(long_rows: int, ratio: float) -> None:
    drawn = ShortPairs(Mix(source="x", ratio=ratio), "", 10).rows_to_draw(long_rows)
    assert abs(drawn - ratio * long_rows) <= 1
    assert (drawn > 0) == (long_rows > 0)


def test_the_hash_is_of_the_rows_and_not_of_the_file(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = _numbered(5)
    content = _read(tmp_path, rows).content
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "other.parquet")
    moved = read_short_pairs(Mix(source=str(tmp_path / "other.parquet")))
    assert moved is not None and moved.content == content
    assert _read(tmp_path, rows[::-1]).content != content
    assert _read(tmp_path, [*rows[:-1], rows[-1] | {"chosen": "other"}]).content != content


def test_a_set_that_changes_between_check_and_draw_stops_the_run(tmp_path: Path) -> None:
    for changed in (_numbered(4), _numbered(6), _numbered(5)[::-1], [*_numbered(4), {"prompt": "x"}]):
        short = _read(tmp_path, _numbered(5))
        _file(tmp_path, changed)
        with pytest.raises(InputError, match="changed while it was read"):
            list(short.draw(5, 0))


def _job(folder: Path, mix: dict[str, Any] | None, **changes: Any) -> TrainingJob:
    if not (folder / "base").exists():
        save_tiny(folder / "base")
        publish_rows(folder / "mill", pair_rows(4))
    quick = {
        "dtype": "float32",
        "lora_rank": 4,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "gradient_checkpointing": False,
    }
    settings = Training.model_validate({**quick, "mix": mix, **changes})
    store = open_store(str(folder / "mill"))
    manifest = "datasets/tiny/v1/manifest.json"
    return TrainingJob(store, manifest, settings, str(folder / "base"), "main", folder / "work", seed=1)


def test_another_mix_is_another_model_and_a_moved_file_is_not(tmp_path: Path) -> None:
    path = _file(tmp_path, _numbered(5))

    def identity(mix: dict[str, Any] | None) -> str:
        job = _job(tmp_path, mix)
        return job_id(job, read_train_split(job.store, job.manifest), read_short_pairs(job.settings.mix))

    without, same = identity(None), identity({"source": str(path)})
    path.rename(tmp_path / "moved.jsonl")
    assert identity({"source": str(tmp_path / "moved.jsonl")}) == same
    other_ratio = identity({"source": str(tmp_path / "moved.jsonl"), "ratio": 0.5})
    _file(tmp_path, _numbered(6))
    assert len({without, same, other_ratio, identity({"source": str(path)})}) == 4


def test_short_rows_go_through_the_gate_and_bad_ones_stop_the_run_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.training.job.launch", None)
    long = _file(tmp_path, [*_numbered(3), {"prompt": "x" * 200, "chosen": "a", "rejected": "b"}])
    with pytest.raises(TrainingError, match=r"1 of 4 pairs .*short\.jsonl, row 4, with 20\d.*training\.max_length"):
        train(_job(tmp_path, {"source": str(long)}, max_length=150, over_length="stop"))
    bad = _file(tmp_path, [{"prompt": "a", "chosen": "b"}])
    with pytest.raises(InputError, match="rejected is missing"):
        train(_job(tmp_path, {"source": str(bad)}))


def test_a_dataset_without_pairs_is_not_made_up_for_by_short_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.training.job.launch", None)
    job = _job(tmp_path, {"source": str(_file(tmp_path, _numbered(3)))})
    (tmp_path / "mill" / job.manifest).write_text(json.dumps({"schema_version": 1, "name": "tiny", "files": []}))
    with pytest.raises(TrainingError, match="has no pair"):
        train(job)


def test_the_card_tells_long_from_short_and_names_no_folder() -> None:
    mixed = MixSummary("short.jsonl", "cd" * 32, 0.5, 400, 6)
    settings = Training.model_validate({"mix": {"source": "/home/somebody/short.jsonl", "ratio": 0.5}})
    lengths = Lengths(18, 30, 4, 34, 300, 0, ((32, 4), (64, 14)), 18)
    config = RunConfig(settings, "/secret/base", "base", False, 3, lengths, "/secret/work", None, mixed)
    assert RunConfig.load(config.dump()) == config
    written = {"steps": 4, "first_loss": 1.0, "last_loss": 0.5, "tensors_changed": 1, "tensors": 1, "sharing": ""}
    steps = [{"step": 1, "total_steps": 1, "loss": 1.0}]
    card = model_card(config, TrainSplit(STORE, "tiny", None, "ab" * 32, ()), "main", written, steps)
    assert "on the 12 pairs of `tiny`" in card
    assert "6 short-context pairs of `short.jsonl`" in card and "0.5 for each long one" in card
    assert "from 400" in card and "cd" * 32 in card
    assert "/home" not in card and "/secret" not in card
    plain = model_card(
        dataclasses.replace(config, mix=None), TrainSplit(STORE, "tiny", None, "", ()), "main", written, steps
    )
    assert "on the 18 pairs of `tiny`" in plain and "short-context" not in plain


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The runs that were launched; each ends at once, with TrainingError."""
    runs: list[RunConfig] = []

    def launch(config: RunConfig, **_: Any) -> None:
        runs.append(config)
        raise TrainingError("launched")

    monkeypatch.setattr("tasks.training.job.launch", launch)
    return runs


def test_short_rows_are_drawn_for_each_question_and_each_is_a_question(
    tmp_path: Path, launched: list[RunConfig]
) -> None:
    job = _job(tmp_path, {"source": str(_file(tmp_path, _numbered(1))), "ratio": 2.0})
    rows: list[dict[str, Any]] = []
    for row in pair_rows(2):
        for text in "abc":
            rows.append({**row, "rejected": [{"role": "assistant", "content": text}]})
    publish_rows(tmp_path / "other", rows)
    with pytest.raises(TrainingError, match="launched"):
        train(dataclasses.replace(job, store=open_store(str(tmp_path / "other"))))
    (config,) = launched
    assert config.mix is not None and config.mix.rows == 4  # two for each of two questions, all of them the same row
    assert (config.lengths.rows, config.lengths.pairs) == (2 + 4, 6 + 4)


def test_short_rows_that_are_too_long_are_left_out_of_the_summary(tmp_path: Path, launched: list[RunConfig]) -> None:
    long = _file(tmp_path, [*_numbered(3), {"prompt": "x" * 200, "chosen": "a", "rejected": "b"}])
    with pytest.raises(TrainingError, match="launched"):
        train(_job(tmp_path, {"source": str(long)}, max_length=150))
    (config,) = launched
    assert config.mix is not None and (config.mix.available, config.mix.rows) == (4, 3)
    assert (config.lengths.rows, config.lengths.dropped_pairs, config.lengths.dropped_short) == (4 + 3, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dpo", "orpo", "sft"])
def test_every_loss_trains_on_long_and_short_rows(tmp_path: Path, loss: str) -> None:
    path = _file(tmp_path, _numbered(2))
    result = train(_job(tmp_path, {"source": str(path), "ratio": 1.5}, loss=loss))
    assert (result.rows, result.short_rows, result.steps) == (10, 6, 5)
    folder = tmp_path / "mill" / result.model
    job = json.loads((folder / "job.json").read_text())
    assert job["rows"] == {"long": 4, "short": 6}
    assert (job["mix"]["available"], job["mix"]["rows"]) == (2, 6)
    assert "6 short-context pairs" in (folder / "README.md").read_text()
    assert train(_job(tmp_path, {"source": str(path), "ratio": 1.5}, loss=loss)) == result

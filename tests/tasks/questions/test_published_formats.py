"""The files that people have: each is loaded by its format or by `questions.fields`, or refused by name.

The files are small and lie beside the repository, not in it; what is expected of them stands here.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.errors import InputError
from infra.store import open_store
from tasks.planning.make_plan import make_plan
from tasks.planning.references import ReferenceCounts, count_references
from tasks.questions import question_formats, read_rows
from tasks.questions.guess import guess_format
from tests.support.planning import small_recipe

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "formats"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the files lie beside the repository, not in it")

# Format, or the paths of questions.fields; questions; how many of them have references, and how many have options.
LOADED: dict[str, tuple[str | dict[str, str], int, int, int]] = {
    "2wikimultihop-dev.json": ("hotpotqa", 1, 1, 0),
    "2wikimultihop-hub.parquet": ("hotpotqa", 1, 1, 0),
    "docqa-rl-1.6k.parquet": ("docqa_rl", 1, 1, 0),
    "generic-answer-string.parquet": ("native", 1, 1, 0),
    "hotpot_dev_distractor_v1.json": ("hotpotqa", 1, 1, 0),
    "hotpotqa-hub.parquet": ("hotpotqa", 1, 1, 0),
    "infinitebench.jsonl": ("infinitebench", 1, 1, 1),
    "kv-retrieval.jsonl": ("kv_retrieval", 3, 3, 0),
    "leval-gsm100.jsonl": ("leval", 2, 2, 0),
    "leval-quality.jsonl": ("leval", 29, 29, 29),
    "longalign-10k.jsonl": ({"context": "messages.0.content", "separator": "\n\n"}, 1, 0, 0),
    "longbench-chat-test_cases.jsonl": ("longbench_chat", 1, 1, 0),
    "longbench-fewshot.jsonl": ("longbench", 3, 3, 0),
    "longbench-hotpotqa.parquet": ("longbench", 1, 1, 0),
    "longbench-qa.jsonl": ("longbench", 2, 2, 0),
    "longbench-summ.jsonl": ("longbench", 4, 4, 0),
    "longbench-synthetic.jsonl": ("longbench", 2, 2, 0),
    "longbench-v2.json": ("longbench_v2", 1, 1, 1),
    "longcite-45k.jsonl": ("longcite", 1, 0, 0),
    "longcite-input.jsonl": ({"context": "context", "template": "Summarise the text on one page."}, 1, 0, 0),
    "longmemeval-oracle.json": ("longmemeval", 1, 1, 0),
    "longreward-pairs.jsonl": ("longreward", 1, 0, 0),
    "longreward-sft.jsonl": ("longreward", 1, 0, 0),
    "musique-ans.jsonl": ("musique", 1, 1, 0),
    "narrativeqa-row.jsonl": ("narrativeqa", 1, 1, 0),
    "pubmed-summ-native.jsonl": ("native", 1, 1, 0),
    "ruler-niah.jsonl": ("ruler", 1, 1, 0),
    "sealong-published.jsonl": ({"context": "prompt", "separator": "\n\n"}, 1, 0, 0),
    "squad-row.jsonl": ("squad", 1, 1, 0),
}
# A part of the message of the plan that is refused.
REFUSED = {
    "longbench-code.jsonl": "dropped: 2 code. The first: row 1: LongBench's lcc completes code and asks no question",
    "longreward-sampled.jsonl": "looks like LongReward's sampled answers: they hold no document; take LongReward's",
    "loong.jsonl": "looks like Loong's questions: `doc` names files that are not in the rows; write their texts",
    "mix-ultrafeedback.jsonl": "looks like preference pairs without documents, as UltraFeedback's: they hold no doc",
    "nolima.jsonl": "looks like NoLiMa's needle sets: they hold needles and no text; place them in a text",
}


def guessed(name: str) -> dict[str, Any]:
    """The section `questions` that `longmill formats` suggests for a file; without a suggestion that of `native`."""
    row = next(read_rows(str(FOLDER / name)))
    guess = guess_format(row.values, question_formats().values())
    assert guess is not None
    settings = dict(setting.removeprefix("questions.").split("=", 1) for setting in guess.settings)
    return {"source": str(FOLDER / name), **{key: yaml.safe_load(value) for key, value in settings.items()}}


@pytest.mark.parametrize("name", LOADED)
def test_a_published_file_is_planned_as_it_is_guessed(name: str, tmp_path: Path) -> None:
    reader, questions, with_references, multiple_choice = LOADED[name]
    settings = guessed(name)
    assert settings[{str: "format", dict: "fields"}[type(reader)]] == reader
    recipe = small_recipe(tmp_path, questions=settings, policy={"context_window": 60_000})
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    assert plan.drop_counts == {}
    assert count_references(store, plan) == ReferenceCounts(questions, with_references, multiple_choice)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_without_documents_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        make_plan(small_recipe(tmp_path, questions=guessed(name)), open_store(str(tmp_path / "mill")))
    assert REFUSED[name] in str(refused.value)


def test_every_file_is_in_one_of_the_tables() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*LOADED, *REFUSED}


@pytest.mark.parametrize("name", [name for name, (reader, *_) in LOADED.items() if reader != "native"])
def test_read_as_native_no_file_passes_in_silence(name: str, tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, questions={"source": str(FOLDER / name)})
    with pytest.raises(InputError, match=r"The row looks like .*: set questions\.(format|fields)="):
        make_plan(recipe, open_store(recipe.store))

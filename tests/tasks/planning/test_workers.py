"""Planning in several processes: the same plan and bytes, faults that are told, and no process that is left."""

import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import InputError, LongmillError, RecipeError
from infra.models.special_tokens import own_special_tokens
from infra.models.tokens import (
    CountingTokenizer,
    closing_tokens,
    count_tokens,
    load_tokenizer,
    prompt_tokens,
    tokenizer_settings,
)
from infra.recipe import Recipe
from infra.running import line_processes
from infra.store import open_store
from tasks.planning import building
from tasks.planning.distractors import gather_pool, map_pool, write_documents
from tasks.planning.make_plan import make_plan
from tasks.training.answer_form import find_answer_form
from tests.support.planning import build_examples, pooled_rows, small_recipe

pytestmark = pytest.mark.medium

TEXTS = [
    "Two  words.\n\nPassage 2: A\ttitle",
    "城市的名字是什么？",
    "naïve café — 1990–1995",
    "<|user|> x",
    "",
]
ROOT = Path(__file__).parents[3]


def recipe_of(folder: Path, rows: list[dict[str, Any]], processes: int, **sections: Any) -> Recipe:
    execution = {"planning_processes": processes, "shard_size": 7}
    return small_recipe(folder, rows, execution=execution, **sections)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first question is built here, batches of three come after it."""
    monkeypatch.setattr(building, "SMALL_CHARACTERS", 0)
    monkeypatch.setattr(building, "_BATCH_QUESTIONS", 3)


def plan_files(folder: Path, recipe: Recipe) -> dict[str, bytes]:
    store = open_store(str(folder))
    make_plan(recipe, store)
    return {path: store.read(path) for path in store.list()}


def mixed_rows(count: int) -> list[dict[str, Any]]:
    """Questions with documents; some are drops, some repeat an id, one context is far too long."""
    rows = pooled_rows(count, length=120)
    rows[5]["id"] = rows[2]["id"]
    rows[9]["question"] = " "
    rows[12]["documents"][0]["text"] = "word " * 2000
    rows[14]["documents"][0]["text"] = "漢字 \u0000 “quoted”\u2028\r\n<|im_end|> <|user|> [INST]" * 5
    return rows


@pytest.mark.parametrize(("build", "processes"), [("given", 2), ("pooled", 3)])
def test_any_number_of_processes_gives_the_same_bytes(tmp_path: Path, build: str, processes: int) -> None:
    contexts = {"build": build, "min_tokens": 300, "max_tokens": 900, "step_tokens": 100}
    one = recipe_of(tmp_path, mixed_rows(40), 1, contexts=contexts)
    several = recipe_of(tmp_path, mixed_rows(40), processes, contexts=contexts)
    files = plan_files(tmp_path / "one", one)
    assert plan_files(tmp_path / "several", several) == files
    reasons = json.loads(next(data for path, data in files.items() if path.endswith("plan.json")))["drop_counts"]
    assert {"duplicate_id", "empty_question"} < reasons.keys()


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "jsonl.gz"])
def test_workers_read_their_ranges_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Blank lines, a byte order mark, Chinese, ids that repeat in another range, and row groups of five."""
    rows = mixed_rows(31)
    rows[20]["id"] = rows[7]["id"]
    recipe = recipe_of(tmp_path, rows, 1, questions={"source": str(tmp_path / f"rows.{kind}"), "limit": 29})
    write_source(Path(recipe.questions.source), rows)
    files = plan_files(tmp_path / "one", recipe)
    read_here = []
    build_range = building.build_range

    def recorded(*arguments: Any) -> Any:
        read_here.append(arguments[0])
        return build_range(*arguments)

    monkeypatch.setattr(building, "build_range", recorded)
    execution = recipe.execution.model_copy(update={"planning_processes": 3})
    assert plan_files(tmp_path / "three", recipe.model_copy(update={"execution": execution})) == files
    assert len(read_here) == (0 if kind == "jsonl.gz" else 1)


def test_a_broken_row_is_named_alike_by_any_number_of_processes(tmp_path: Path) -> None:
    messages = set()
    for processes in (1, 2):
        recipe = recipe_of(tmp_path, pooled_rows(20), processes)
        path = Path(recipe.questions.source)
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:9], "", lines[9], "{" + lines[10], *lines[11:]]))
        with pytest.raises(InputError) as error:
            plan_files(tmp_path / str(processes), recipe)
        messages.add(str(error.value))
    assert len(messages) == 1
    assert "questions.jsonl, row 12: not valid JSON" in messages.pop()


def write_source(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=5)
        return
    text = "\ufeff"
    for number, row in enumerate(rows):
        text += json.dumps(row, ensure_ascii=False) + ("\n\n \r\n" if number % 4 == 2 else "\n")
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def test_articles_of_the_pool_are_the_same_in_a_worker(tmp_path: Path) -> None:
    rows = mixed_rows(20)
    pool = tmp_path / "pool.jsonl"
    articles = [{"title": f"Title {number}", "text": f"An article {number}. " * 9} for number in range(0, 30, 2)]
    pool.write_text("".join(json.dumps(article) + "\n" for article in articles))
    contexts = {"build": "pooled", "min_tokens": 300, "max_tokens": 600, "step_tokens": 100, "pool": str(pool)}
    contexts["articles"] = "prefer"
    files = plan_files(tmp_path / "one", recipe_of(tmp_path, rows, 1, contexts=contexts))
    assert plan_files(tmp_path / "two", recipe_of(tmp_path, rows, 2, contexts=contexts)) == files


def test_a_pool_that_is_mapped_has_the_same_documents(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, mixed_rows(20), 1, contexts={"build": "pooled", "max_tokens": 4096})
    pool = gather_pool(recipe, recipe.questions)
    write_documents(pool, tmp_path / "pool.arrow")
    mapped = map_pool(tmp_path / "pool.arrow")
    assert list(mapped.documents) == list(pool.documents)
    assert list(mapped.documents[2:4]) == list(pool.documents[2:4])


@pytest.mark.parametrize("name", ["microworld", "bytes"])
def test_a_counting_tokenizer_counts_as_the_whole_one(tmp_path: Path, name: str) -> None:
    if name == "bytes":
        small_recipe(tmp_path)  # writes the tokenizer
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer") if name == "bytes" else name)
    settings = tokenizer_settings(tokenizer)
    assert settings is not None
    copy = CountingTokenizer(json.loads(json.dumps(settings)))
    assert count_tokens(copy, TEXTS) == count_tokens(tokenizer, TEXTS)
    conversations = [[{"role": "user", "content": text}] for text in TEXTS]
    assert prompt_tokens(copy, conversations) == prompt_tokens(tokenizer, conversations)
    assert closing_tokens(copy) == closing_tokens(tokenizer)
    assert own_special_tokens(copy) == own_special_tokens(tokenizer)
    assert find_answer_form(copy, {}) == find_answer_form(tokenizer, {})
    assert tokenizer_settings(object()) is None


def test_a_worker_starts_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys, tasks.planning.worker\n"
        "import transformers.utils.chat_template_utils\n"
        "assert not {'torch', 'prefect', 'sklearn', 'scipy'} & sys.modules.keys(), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_an_error_of_a_worker_is_raised_here_with_its_class(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, pooled_rows(12), 2)
    tokenizer = load_tokenizer(recipe.policy.tokenizer)
    outcomes = build_examples(recipe, tokenizer)
    next(outcomes)
    tokenizer.chat_template = (
        "{% if messages[0]['content'].find('number 7') > 0 %}{{ raise_exception('no sevens') }}{% endif %}x"
    )
    with pytest.raises(RecipeError, match="refuses the prompt: no sevens"):
        list(outcomes)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The worker processes that are started."""
    processes: list[subprocess.Popen[bytes]] = []
    start = line_processes.start_process

    def recorded(module: str, first_line: bytes) -> subprocess.Popen[bytes]:
        processes.append(start(module, first_line))
        return processes[-1]

    monkeypatch.setattr(line_processes, "start_process", recorded)
    yield processes
    for process in processes:
        process.kill()


def test_a_worker_that_dies_is_named_and_the_others_end(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    recipe = recipe_of(tmp_path, pooled_rows(60), 2)
    outcomes = build_examples(recipe, load_tokenizer(recipe.policy.tokenizer))
    for _ in itertools.islice(outcomes, 10):
        pass
    started[0].send_signal(signal.SIGKILL)
    with pytest.raises(LongmillError, match=r"has ended \(status -9\).*planning_processes=1"):
        list(outcomes)
    assert all(process.poll() is not None for process in started)


def test_a_reader_that_stops_early_leaves_no_process(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    recipe = recipe_of(tmp_path, pooled_rows(60), 2)
    outcomes = build_examples(recipe, load_tokenizer(recipe.policy.tokenizer))
    for _ in itertools.islice(outcomes, 10):
        pass
    assert len(started) == 2
    outcomes.close()
    assert all(process.poll() is not None for process in started)


def test_little_text_starts_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[bytes]]
) -> None:
    monkeypatch.setattr(building, "SMALL_CHARACTERS", 1_000_000)
    recipe = recipe_of(tmp_path, pooled_rows(60), 2)
    assert len(list(build_examples(recipe, load_tokenizer(recipe.policy.tokenizer)))) == 60
    assert started == []


def test_workers_end_when_the_process_that_plans_is_killed(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, pooled_rows(400), 2)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.model_dump(mode="json")))
    code = f"""
import json, os, sys, time
from infra.models.tokens import load_tokenizer
from infra.recipe import parse_recipe
from infra.running import line_processes
from tasks.planning import building
from tests.support.planning import build_examples
building.SMALL_CHARACTERS, building._BATCH_QUESTIONS = 0, 3
start = line_processes.start_process
def started(module, first_line):
    process = start(module, first_line)
    os.write(1, f"{{process.pid}}\\n".encode())
    return process
line_processes.start_process = started
recipe = parse_recipe(json.load(open({str(path)!r})))
for number, outcome in enumerate(build_examples(recipe, load_tokenizer(recipe.policy.tokenizer))):
    if number == 10:
        print("built", flush=True)
        time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as planning:
        assert planning.stdout is not None
        pids = [int(planning.stdout.readline()) for _ in range(2)]
        assert planning.stdout.readline() == "built\n"
        planning.kill()
    deadline = time.monotonic() + 20
    while any(map(_runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_runs, pids))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"

"""The examples of the documentation work: recipes are read, rows are read, Python is typed and run, commands print
what the page shows."""

import json
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

import tasks.evaluation.suites
import tasks.scoring
from infra.recipe import Recipe, parse_recipe
from infra.store import open_store
from tasks.evaluation.suites import all_suites, find_suite, parse_suites
from tasks.scoring import check_scorers, known_scorers
from tests.docs.pages import PAGES, ROOT, Block, all_blocks, blocks, commands
from tests.support.judged_suites import judged, suite_answer
from tests.support.stub_server import running_stub

SKIP = "…"  # a line that stands for lines that are left out
CHANGES_EACH_TIME = ("tokens a second", "seconds")  # figures of these lines
SCORER_FILE = "tasks/scoring/brevity.py"
SUITE_FILE = "tasks/evaluation/suites/manner.py"


def blocks_in(language: str) -> list[Block]:
    return [block for block in all_blocks() if block.language == language]


def scorer_block() -> Block:
    (block,) = [block for block in blocks_in("python") if block.file == SCORER_FILE]
    return block


@pytest.fixture
def brevity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The README's scorer is there, as if its file stood in tasks/scoring."""
    folder = tmp_path / "scorers"
    folder.mkdir()
    (folder / Path(SCORER_FILE).name).write_text(scorer_block().text, encoding="utf-8")
    monkeypatch.setattr(tasks.scoring, "__path__", [*tasks.scoring.__path__, str(folder)])
    known_scorers.cache_clear()
    yield
    known_scorers.cache_clear()
    sys.modules.pop("tasks.scoring.brevity", None)


def whole_recipe(text: str) -> Recipe:
    """The recipe of a block; what a block without a name leaves out is filled in."""
    settings: dict[str, Any] = yaml.safe_load(text)
    if "name" not in settings:
        required = {
            "name": "example",
            "questions": {"source": "questions.jsonl"},
            "policy": {"name": "m", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:9/v1"]},
            "scoring": {"scorers": [{"scorer": "consensus"}]},
            "dataset": {"name": "example", "licence": "mit"},
        }
        settings = required | settings
    return parse_recipe(settings)


@pytest.mark.parametrize("block", blocks_in("yaml"), ids=str)
def test_every_recipe_can_be_read(block: Block, request: pytest.FixtureRequest) -> None:
    if "brevity" in block.text:
        request.getfixturevalue("brevity")
    recipe = whole_recipe(block.text)
    assert check_scorers(recipe)
    parse_suites(recipe)


def test_the_suite_of_the_documentation_asks_its_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [block for block in blocks_in("python") if block.file == SUITE_FILE]
    (tmp_path / Path(SUITE_FILE).name).write_text(block.text, encoding="utf-8")
    monkeypatch.setattr(tasks.evaluation.suites, "__path__", [*tasks.evaluation.suites.__path__, str(tmp_path)])
    prompts = tmp_path / "prompts" / "en"
    prompts.mkdir(parents=True)
    prompts.joinpath("evaluate-polite.txt").write_text("{question}\n<answer>\n{answer}\n</answer>", encoding="utf-8")
    monkeypatch.setattr("tasks.prompts._FOLDER", tmp_path / "prompts")
    all_suites.cache_clear()
    try:
        scores, _ = judged(find_suite("manner"), [suite_answer("Please.")], lambda request: "[[yes]]")
    finally:
        all_suites.cache_clear()
        sys.modules.pop("tasks.evaluation.suites.manner", None)
    assert scores[0]["polite"].value == 1.0


@pytest.mark.parametrize("block", blocks_in("jsonl"), ids=str)
def test_every_row_can_be_read(block: Block, tmp_path: Path) -> None:
    from tasks.questions import RawQuestion, read_questions

    for number, line in enumerate(block.text.splitlines()):
        source = tmp_path / f"{number}.jsonl"
        source.write_text(line + "\n", encoding="utf-8")
        questions = whole_recipe("{}").questions.model_copy(update={"source": str(source)})
        (question,) = read_questions(questions, "given" if "context" in json.loads(line) else "pooled")
        assert isinstance(question, RawQuestion), line


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks_in("python"), ids=str)
def test_python_is_typed(block: Block, tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text(block.text, encoding="utf-8")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(example)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.medium
@pytest.mark.parametrize("block", [block for block in blocks_in("python") if block.file is None], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_python_runs(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a store with a dataset `demo-sealong` whose version is called VERSION."""
    from tasks.publishing import publish
    from tests.support.published import fake_plan, fake_recipe

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
    recipe = fake_recipe(folder / "mill", name="demo-sealong")
    store = open_store(recipe.store)
    published = publish(*fake_plan(store, recipe), recipe, store)
    Path(published.folder).rename(Path(published.folder).parent / "VERSION")
    module = types.ModuleType("example")
    exec(compile(block.text, str(block), "exec"), module.__dict__)
    assert module.pairs.num_rows == dict(published.splits)
    assert sum(module.evidence.num_rows.values()) == published.counts["answers"]


@pytest.mark.slow
@pytest.mark.usefixtures("prefect", "brevity")
def test_the_scorer_of_the_readme_scores_in_a_build_and_cannot_score_a_missing_answer(folder: Path) -> None:
    from flows.bench.common import stub_recipe, write_questions
    from flows.build import build
    from flows.shard import shard_recipe

    (scoring,) = [yaml.safe_load(block.text) for block in blocks_in("yaml") if "brevity" in block.text]
    write_questions(folder / "questions.jsonl", 4, 600)
    with (folder / "questions.jsonl").open("a") as lines:
        lines.write(json.dumps({"id": "filtered", "question": "What is FORBIDDEN?", "context": "one two three"}) + "\n")
    with running_stub() as stub:
        stub.options.filter_word = "FORBIDDEN"
        recipe = stub_recipe(folder, stub.url, sampling={"samples": 4}, scoring=scoring["scoring"])
        built = build(shard_recipe(recipe))
    scores: dict[str, list[dict[str, Any]]] = {"filtered": []}
    for file in Path(built["dataset"]["folder"]).glob("evidence/*/*.parquet"):
        for row in pq.read_table(file).to_pylist():
            named = {judgement["scorer"]: judgement for judgement in row["judgements"]}
            scores.setdefault(row["example_id"], []).append({**named["brevity"], "tokens": row["completion_tokens"]})
    filtered = scores.pop("filtered")
    assert [judgement["score"] for judgement in filtered] == [None] * 4
    assert [judgement["reason"] for judgement in filtered] == ["content_filter"] * 4
    assert len(scores) == 4
    for judgements in scores.values():
        for judgement in judgements:
            assert judgement["score"] == pytest.approx(max(0.0, 1 - judgement["tokens"] / 200))
            assert json.loads(judgement["evidence"]) == {"tokens": judgement["tokens"]}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.is_run for block in blocks(page))], ids=lambda page: page.name
)
def test_commands_print_what_the_page_shows(page: Path, folder: Path) -> None:
    """In one folder for a page, in the page's order; files that the page shows are written there first."""
    from flows.cli.app import app

    for block in blocks(page):
        if block.file is not None:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        for command in commands(block) if block.is_run else ():
            program, *words = shlex.split(command.words)
            assert program == "longmill", f"{block}: {command.words}: say in a comment above the block how it is tested"
            ended = CliRunner().invoke(app, words)
            assert ended.exit_code == 0, f"{command.words}: {ended.output} {ended.exception!r}"
            assert_shows(comparable(command.output), comparable(ended.stdout.splitlines()), str(block))


def comparable(lines: Sequence[str]) -> list[str]:
    """The lines with single blanks, and without those whose figures change each time."""
    return [" ".join(line.split()) for line in lines if not line.startswith(CHANGES_EACH_TIME)]


def assert_shows(page_lines: list[str], printed: list[str], place: str) -> None:
    """Assert that the lines of the page are the printed ones, except where the page says …. No line: any output."""
    if not page_lines:
        return
    rest = printed
    skips = False
    for line in page_lines:
        if line == SKIP:
            skips = True
        elif skips:
            assert line in rest, f"{place}: {line!r} is not printed, but: {printed}"
            rest = rest[rest.index(line) + 1 :]
            skips = False
        else:
            assert rest[:1] == [line], f"{place}: the page says {line!r}, the command {rest[:1]}"
            rest = rest[1:]
    assert skips or rest == [], f"{place}: the page leaves out {rest}"

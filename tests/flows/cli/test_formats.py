"""What a person sees of a file before anything is paid: the format, the first question, how many have references."""

import json
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.formats import file_view
from flows.cli.views import plan_view
from infra.errors import InputError
from infra.store import open_store
from tasks.planning.make_plan import make_plan
from tests.support.planning import small_recipe, write_rows

CHOICE = {"_id": "x", "question": "What?", "context": "Some text.", "answer": "B", "domain": "QA"}
CHOICE |= {f"choice_{letter}": f"option {letter.lower()}" for letter in "ABCD"}


def printed(*words: str) -> str:
    ended = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def test_formats_lists_every_format_with_what_it_is() -> None:
    output = printed("formats")
    assert "musique" in output
    assert "LongBench v2: four options over a long context" in output
    assert json.loads(printed("formats", "--json"))["squad"] == "SQuAD: the hub's rows and the published file"


def test_the_options_that_are_printed_for_a_file_make_its_plan(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "my rows.jsonl", [{"title": "T", "article": "Text.", "highlights": "h"}])
    output = printed("formats", str(file))
    assert "documents without questions" in output
    assert "1 questions in the first 1 rows, 1 with references" in output
    recipe = small_recipe(tmp_path, contexts={"build": "pooled"})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    (command,) = (line for line in output.splitlines() if line.startswith("longmill plan"))
    _, verb, _, *changes = shlex.split(command)
    view = json.loads(printed(verb, str(tmp_path / "recipe.yaml"), *changes, "--json"))
    assert view["references"] == {"questions": 1, "with_references": 1, "multiple_choice": 0}
    assert "Summarise the text on one page." in view["first_question"]["prompt"]


def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    view = file_view(str(write_rows(tmp_path / "a.jsonl", [{"idx": 1, "query": "Q", "answer": "A"}])))
    assert (view["name"], view["settings"]) == ("LongReward's sampled answers", [])
    assert "they hold no document" in printed("formats", str(tmp_path / "a.jsonl"))
    code = {"input": "", "context": "C", "answers": [], "dataset": "lcc", "language": "python", "_id": "1"}
    assert "dropped 1: code" in printed("formats", str(write_rows(tmp_path / "b.jsonl", [code])))
    with pytest.raises(InputError, match="no format fits and no field looks like a document; the first row has n"):
        file_view(str(write_rows(tmp_path / "c.jsonl", [{"n": 1}])))


def test_plan_shows_the_first_question_as_it_will_be_asked_and_counts_references(tmp_path: Path) -> None:
    long = {**CHOICE, "context": "begins " + "x" * 3000 + " ends"}
    recipe = small_recipe(tmp_path, [long], questions={"format": "longbench_v2"})
    view = plan_view(recipe)
    prompt = view["first_question"]["prompt"]
    assert prompt.startswith("Read the following text")
    assert "\nB. option b\n" in prompt
    assert " […] " in prompt
    assert len(prompt) < 1100
    assert view["first_question"]["references"] == ["B", "option b"]
    assert view["references"] == {"questions": 1, "with_references": 1, "multiple_choice": 1}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    output = printed("plan", str(tmp_path / "recipe.yaml"))
    assert "the first question, x, as it will be asked" in output
    assert "with references" in output
    assert "1 of 1" in output
    assert "B · option b" in output


@pytest.mark.parametrize(
    ("answered", "note"), [(0, "no question has a reference"), (1, "1 of 2 questions lack a reference"), (2, "")]
)
def test_questions_without_references_do_not_pass_in_silence(tmp_path: Path, answered: int, note: str) -> None:
    rows = [{"id": str(number), "question": "Q", "context": f"C{number}"} for number in range(2)]
    for row in rows[:answered]:
        row["answer"] = "x"
    recipe = small_recipe(tmp_path, rows)
    view = plan_view(recipe)
    notes = [warning for warning in view["warnings"] if "reference answer: figures" in warning]
    assert len(notes) == bool(note)
    assert note in " ".join(notes)
    # The plan itself does not hold the note: its id is that of the same questions at any time.
    assert not any("reference" in warning for warning in make_plan(recipe, open_store(recipe.store)).warnings)


def test_the_first_question_of_a_terminal_is_harmless(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, [{"id": "\x1b[2J", "question": "Who \x1b[31m?", "context": "[bold]C[/]"}])
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    output = printed("plan", str(tmp_path / "recipe.yaml"))
    assert "\x1b" not in output
    assert "[bold]C[/]" in output


def test_a_build_warns_of_questions_without_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import build

    warnings: list[str] = []

    class Log:
        def warning(self, message: str) -> None:
            warnings.append(message)

    monkeypatch.setattr(build, "run_log", Log)
    with_answer = small_recipe(tmp_path, [{"question": "Q", "context": "C", "answer": "x"}])
    build.plan_questions.fn(with_answer, "small")
    assert warnings == []
    build.plan_questions.fn(small_recipe(tmp_path, [{"question": "Q", "context": "C"}]), "small")
    assert "no question has a reference answer" in warnings[0]

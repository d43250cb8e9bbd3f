"""What a new user meets: help in groups, completion, keys by section, doctor as JSON, errors that name their page."""

import json
import sys
from collections.abc import Iterator

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from flows.cli import ending
from flows.cli.app import GROUPS, app
from infra.errors import LongmillError, PrerequisiteError, UsageError
from tests.docs.pages import ROOT, anchors


def errors_below(error: type[LongmillError]) -> Iterator[type[LongmillError]]:
    yield error
    for narrower in error.__subclasses__():
        yield from errors_below(narrower)


def test_every_verb_is_in_a_group_of_the_help() -> None:
    verbs = [verb for verbs in GROUPS.values() for verb in verbs]
    command = get_command(app)
    assert len(command.commands) == len(verbs) + 2  # and the groups `train` and `microworld`
    page = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"}).stdout
    places = [page.index(f"─ {name} ") for name in GROUPS]
    assert places == sorted(places)
    assert "─ Commands ─" not in page


@pytest.mark.parametrize("error", list(errors_below(LongmillError)), ids=lambda error: str(error.__name__))
def test_the_page_that_an_error_names_is_there(error: type[LongmillError]) -> None:
    if error.page:
        file, _, anchor = error.page.partition("#")
        assert (ROOT / file).exists()
        assert not anchor or anchor in anchors(ROOT / file)


def test_an_error_ends_with_its_page(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def end(status: int) -> None:
        raise SystemExit(status)

    def fail() -> None:
        raise UsageError("say this or that")

    monkeypatch.setattr(ending, "_end_process", end)
    monkeypatch.setattr(ending.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit):
        ending.run_to_the_end(fail)
    assert capsys.readouterr().err == "error: say this or that\nsee docs/verbs.md\n"


def test_keys_of_a_section_are_listed_alone() -> None:
    listed = json.loads(CliRunner().invoke(app, ["keys", "sampling", "--json"]).stdout)
    assert {entry["key"].partition(".")[0] for entry in listed} == {"sampling"}
    narrower = json.loads(CliRunner().invoke(app, ["keys", "policy.serve", "--json"]).stdout)
    assert all(entry["key"].startswith("policy.serve") for entry in narrower)
    assert len(narrower) > 1
    error = CliRunner().invoke(app, ["keys", "smapling"]).exception
    assert isinstance(error, UsageError)
    assert "sampling" in str(error)


def test_doctor_gives_its_checks_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [("policy's tokenizer nowhere", "cannot be loaded"), ("scorers", "")]
    monkeypatch.setattr(sys.modules["flows.cli.app"], "run_checks", lambda recipe: checks)
    ended = CliRunner().invoke(app, ["doctor", "--json"])
    assert json.loads(ended.stdout) == {
        "ready": False,
        "checks": [
            {"check": "policy's tokenizer nowhere", "ok": False, "missing": "cannot be loaded"},
            {"check": "scorers", "ok": True, "missing": ""},
        ],
    }
    assert ended.exit_code == PrerequisiteError.exit_code


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_sections(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_WORDS", "longmill keys sam")  # bash
    monkeypatch.setenv("COMP_CWORD", "2")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "longmill keys sam")  # the others
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("_LONGMILL_COMPLETE", f"complete_{shell}")
    with pytest.raises(SystemExit):
        app(prog_name="longmill")
    assert "sampling" in capsys.readouterr().out

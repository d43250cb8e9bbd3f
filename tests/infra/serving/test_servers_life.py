"""Starting vLLM, with a small server in its place: how it is called, and what is left when it ends or fails."""

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.errors import ModelError, PrerequisiteError, ServingError
from infra.recipe import Execution, Recipe
from infra.serving.servers import serve, serve_recipe, start_servers
from tests.support.planning import small_recipe

STAND_IN = """#!{python}
import http.server, json, os, sys, tempfile
arguments = dict(zip(sys.argv[1:], sys.argv[2:]))
tempfile.mkstemp()
with open({seen!r}, "w") as seen:
    json.dump({{"argv": sys.argv[1:], "temporary": tempfile.gettempdir(), "pid": os.getpid()}}, seen)
if {dies}:
    sys.exit("no memory for the cache")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.HTTPServer(("127.0.0.1", int(arguments["--port"])), Handler).serve_forever()
"""


def recipe_for(folder: Path, dies: bool = False, **serve: Any) -> Recipe:
    """A recipe whose vLLM is a script of the test, which writes how it was called to seen.json."""
    script = folder / "python"
    script.write_text(STAND_IN.format(python=sys.executable, seen=str(folder / "seen.json"), dies=dies))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    settings = {"model_path": "microworld", "python": str(script), **serve}
    return small_recipe(folder, policy={"endpoints": [], "serve": settings})


def seen(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "seen.json").read_text())
    return values


def test_a_server_answers_until_the_block_ends_and_leaves_nothing(folder: Path) -> None:
    with serve_recipe(recipe_for(folder, arguments=["--enforce-eager"])) as ready:
        (url,) = ready.policy.endpoints
        was = seen(folder)
        assert url == f"http://127.0.0.1:{was['argv'][was['argv'].index('--port') + 1]}/v1"
        assert Path(was["temporary"]).is_dir()
        assert Path(f"/proc/{was['pid']}").exists()
    assert not Path(was["temporary"]).exists()
    assert not Path(f"/proc/{was['pid']}").exists()
    assert {"--enable-lora", "--enforce-eager", "127.0.0.1"} <= set(was["argv"])


@pytest.mark.medium
def test_a_server_of_a_full_model_takes_no_adapters(folder: Path) -> None:
    with serve(recipe_for(folder).policy, log=folder / "log", execution=Execution(), adapters=False):
        assert "--enable-lora" not in seen(folder)["argv"]


def test_a_recipe_with_endpoints_starts_nothing(folder: Path) -> None:
    recipe = small_recipe(folder)
    with serve_recipe(recipe) as ready:
        assert ready is recipe
    assert not (folder / "seen.json").exists()


@pytest.mark.medium
def test_a_server_that_dies_while_it_starts_is_named_with_the_end_of_its_log(folder: Path) -> None:
    with pytest.raises(ServingError, match=r"status 1 while it started(.|\n)*no memory for the cache"):
        serve_recipe(recipe_for(folder, dies=True)).__enter__()


def test_a_call_that_fails_while_the_server_lives_stays_what_it_is(folder: Path) -> None:
    with pytest.raises(ModelError, match="refuses"), start_servers(recipe_for(folder)) as servers:
        servers.wait_until_ready()
        raise ModelError("the endpoint refuses the model")


def test_an_interpreter_that_is_not_there_is_named_with_the_remedy(folder: Path) -> None:
    recipe = small_recipe(
        folder, policy={"endpoints": [], "serve": {"model_path": "microworld", "python": "nowhere/bin/python"}}
    )
    with pytest.raises(PrerequisiteError, match=r"nowhere/bin/python: no such Python; `make setup`"):
        serve_recipe(recipe).__enter__()


@pytest.mark.parametrize("path", ["/nowhere/model", "./model", "mill/models/small/abc"])
def test_a_model_folder_that_is_not_there_is_named_before_a_server_starts(folder: Path, path: str) -> None:
    with pytest.raises(PrerequisiteError, match=r"policy\.serve\.model_path: .* does not exist"):
        serve_recipe(recipe_for(folder, model_path=path)).__enter__()
    assert not (folder / "seen.json").exists()


def test_a_name_on_the_hub_is_no_folder(folder: Path) -> None:
    with serve_recipe(recipe_for(folder, model_path="somebody/some-model")):
        assert "somebody/some-model" in seen(folder)["argv"]

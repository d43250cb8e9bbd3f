"""The site (mkdocs.yml, `make docs`) has every page once, loads nothing from elsewhere, and gives no warning."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import PAGES, ROOT

CONFIGURATION = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
HERE = Path(sys.executable).with_name("mkdocs")
MKDOCS = next((place for place in (ROOT / ".venv-docs/bin/mkdocs", HERE) if place.exists()), None)


def pages_of(entries: Any) -> Iterator[str]:
    """The files of a navigation, in its order."""
    if isinstance(entries, str):
        yield entries
    for entry in entries if isinstance(entries, list) else ():
        for below in entry.values():
            yield from pages_of(below)


def test_the_navigation_has_every_page_once() -> None:
    pages = list(pages_of(CONFIGURATION["nav"]))
    assert pages[0] == "index.md"  # the README
    assert sorted(pages[1:]) == sorted(page.name for page in PAGES[1:])


@pytest.mark.skipif(MKDOCS is None, reason="there is no mkdocs here; `make docs` brings it")
def test_the_site_is_built_without_a_warning_and_needs_no_network(tmp_path: Path) -> None:
    command = [str(MKDOCS), "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "WARNING" not in ended.stderr
    for page in (tmp_path / "site").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert (
            re.findall(r'<(?:script|img|iframe)[^>]*src="(?:https?:)?//[^"]*"|<link[^>]*href="(?:https?:)?//', text)
            == []
        )
    assert (tmp_path / "site/flows/evidence/measured/training.png").exists()


def test_a_file_outside_the_pages_becomes_its_path_in_words() -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("there is no mkdocs here")
    spec = importlib.util.spec_from_file_location("site_hook", ROOT / "docs/site.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    text = "see [its card](../infra/models/README.md), ![plot](../flows/plot.png) and [here](view.md)"
    assert (
        hook.on_page_markdown(text)
        == "see its card (`infra/models/README.md`), ![plot](flows/plot.png) and [here](view.md)"
    )

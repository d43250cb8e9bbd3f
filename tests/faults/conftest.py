"""Faults: a small build, the same build undisturbed, and the figures that each fault's test measures.

With LONGMILL_FIGURES=FOLDER each test leaves its figures there; `python -m tests.faults.table FOLDER` then writes the
table of README.md from them.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Notes what a test has measured: `figures(paid_again=2, in_flight=4, seconds=1.5, message="...")`."""
    noted: dict[str, object] = {}

    def note(**values: object) -> None:
        noted.update(values)

    yield note
    folder = os.environ.get("LONGMILL_FIGURES")
    if folder and noted:
        file, _, name = request.node.nodeid.partition("::")
        path = Path(folder) / f"{Path(file).stem}-{name.replace('/', '_')}.json"
        path.write_text(json.dumps({"test": f"{file}::{name}", **noted}))

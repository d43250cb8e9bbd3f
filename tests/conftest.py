"""Fixtures of all tests: a scrubbed environment, one Prefect test server, one stub model server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

for name in [name for name in os.environ if name.startswith(("PREFECT_", "AWS_", "OPENAI_", "VLLM_"))]:
    del os.environ[name]
os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "DO_NOT_TRACK": "1",
    }
)
# The same examples in every run, so that a change is judged by what it changed. `--hypothesis-profile default` looks
# for others: what it finds becomes an `@example`.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server for the whole session: it takes seconds to start."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is also the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path

"""`longmill view` as a person starts it: an address with a token, its page, and an end in order after Ctrl-C."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from infra.store import open_store
from tests.support.viewed import pair_row, write_dataset

pytestmark = pytest.mark.slow  # starts the command


def test_the_command_prints_an_address_serves_its_page_and_ends_with_a_signal(tmp_path: Path) -> None:
    write_dataset(open_store(str(tmp_path)), [[pair_row(1)]])
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-m", "flows.cli", "view", str(tmp_path), "--no-browser"]
    view = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert view.stdout is not None
        address = view.stdout.readline().removeprefix("view: ").strip()
        assert address.startswith("http://127.0.0.1:") and "?token=" in address
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(), urllib.request.ProxyHandler({}))
        page = browser.open(address, timeout=60).read().decode()
        assert "0123456789abcdef" in page and address.rpartition("=")[2] not in page
        view.send_signal(signal.SIGINT)
        _, errors = view.communicate(timeout=60)
        assert (view.returncode, errors) == (0, "")
    finally:
        view.kill()
        view.communicate()

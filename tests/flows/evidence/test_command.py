"""`longmill evidence` as a process: on real vLLM and with real training, and again from stored results."""

import json
import time
from pathlib import Path

import pytest

from tests.support.command import Command, needs_vllm

CHANGES = ["training.max_steps=2", "sampling.samples=6"]  # LongReward pairs from 5 on


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_vllm
def test_rows_are_measured_on_real_models_and_shown_again_from_stored_results(tmp_path: Path) -> None:
    rows = ("consensus", "sealong")
    words = ["evidence", "--count", "8", "--seeds", "1"]
    for row in rows:
        words += ["--only", row]
    for change in CHANGES:
        words += ["--set", change]
    first = Command(tmp_path, tmp_path, *words).ended(timeout_s=800)
    assert first.status == 0, first.err
    assert "does SeaLong (ORPO) improve the model?" in first.out
    begun = time.time()
    again = Command(tmp_path, tmp_path, *words, "--json").ended(timeout_s=800)
    assert again.status == 0, again.err
    table = json.loads(again.out)
    assert table == json.loads((tmp_path / "mill-evidence/evidence/evidence.json").read_text())
    assert [row["name"] for row in table["rows"]] == list(rows)
    consensus, sealong = table["rows"]
    assert consensus["figures"]["oracle@8"]["n"] == 8
    assert sealong["figures"]["SubEM gain"]["n"] == 8
    assert sealong["about"]["0"]["steps"] == 2
    assert (tmp_path / "mill-evidence/logs/vllm.log").stat().st_mtime < begun  # no server was started again
    assert (tmp_path / "mill-evidence/evidence/plots/picks-by-samples.png").exists()

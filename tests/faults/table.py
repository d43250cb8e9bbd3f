"""The table of faults in README.md: for each its test, what holds, and what the test has measured.

`LONGMILL_FIGURES=FOLDER pytest tests/faults` has each test leave its figures in FOLDER; `python -m tests.faults.table
FOLDER` takes them into measured.json, and writes README.md. A test compares the two.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MEASURED = HERE / "measured.json"
PAGE = HERE / "README.md"

_KILLED = "tests/faults/test_killed_builds.py::test_a_build_that_is_killed_at_every_step_ends_with_the_same_bytes"
_SERVER = "tests/faults/test_model_server.py::test_a_build_goes_on_through_faults_of_its_model_server"
_SERVER_KILLED = (
    "tests/faults/test_model_server.py::test_a_build_whose_model_server_is_killed_says_so_and_goes_on_when_it_is_back"
)
_STORE = "tests/faults/test_object_store.py::test_a_build_goes_on_through_faults_of_its_store"
_SERVICES = "tests/faults/test_services.py::test_a_build_goes_on_when_the_services_come_back"
_SAME = "the bytes of an undisturbed build"


@dataclass(frozen=True, slots=True)
class Row:
    """A fault, its test (a pytest node), and what the test asserts."""

    fault: str
    test: str
    holds: str


ROWS = (
    Row("kill -9 at each kind of step by which a file of a build comes into the store: plan, lease, ledger segment, "
        "tables, part, shard result, rows, manifest, latest.json", _KILLED,
        f"{_SAME}; every call in the ledger once; paid again ≤ calls in flight for each death"),
    Row("kill -9 while the ledger records and merges, folder and S3",
        "tests/faults/test_ledger_kill.py::test_after_a_kill_at_most_the_calls_in_flight_are_paid_again",
        "every reply whose `record` has returned is there; paid again ≤ calls in flight"),
    Row("kill -9 of an S3 writer whose lease another process wants",
        "tests/infra/store/test_lease_s3.py::test_one_process_has_the_lease_and_the_next_follows_a_killed_one",
        "one holder at a time, on a real S3 server; the next follows"),
    Row("429 storm with Retry-After", f"{_SERVER}[429 storm]", f"{_SAME}; none paid again"),
    Row("500s and 502s", f"{_SERVER}[500s]", f"{_SAME}; none paid again"),
    Row("503s of a server that starts", f"{_SERVER}[503 of a starting server]", f"{_SAME}; none paid again"),
    Row("the model server stalls", f"{_SERVER}[stall]", f"{_SAME}; a call ends after `timeout_s`; none paid again"),
    Row("connections reset before the reply", f"{_SERVER}[reset before the reply]", f"{_SAME}; none paid again"),
    Row("connections reset in mid-body", f"{_SERVER}[reset in mid-body]",
        f"{_SAME}; paid again ≤ replies that were cut"),
    Row("replies that trickle for longer than `timeout_s`", f"{_SERVER}[slow trickle]",
        f"{_SAME}; paid again ≤ replies that trickled"),
    Row("200 with what is no completion", f"{_SERVER}[200 with garbage]", f"{_SAME}; paid again ≤ such replies"),
    Row("the model server is killed and started again later, by others", _SERVER_KILLED,
        f"the build ends with the endpoint's name; the same command ends with {_SAME}; paid again ≤ calls in flight"),
    Row("a server that Longmill started is killed twice",
        "tests/infra/serving/test_restarts.py::test_a_server_that_is_killed_twice_costs_no_call_and_no_attempt",
        "started again twice; none paid again"),
    Row("the engine of one of two vLLM replicas is killed",
        "tests/flows/test_killed_server.py::test_a_replica_takes_over_when_the_engine_of_the_other_is_killed",
        f"{_SAME}; the other takes over; none paid again"),
    Row("a question on which the server always breaks",
        "tests/flows/test_failed_calls.py::test_a_question_that_always_fails_is_named_and_can_be_left_out",
        "question, endpoint and remedy are named; `--drop-failed` publishes the rest"),
    Row("the object store is away in mid-build",
        "tests/faults/test_object_store.py::test_a_build_waits_for_a_store_that_comes_back",
        f"{_SAME}; the build waits (up to 60 s); paid again ≤ calls in flight"),
    Row("the object store is away for longer",
        "tests/flows/test_build_s3.py::"
        "test_after_an_outage_another_machine_goes_on_and_pays_the_missing_calls_only",
        "the error names place and remedy; another machine pays exactly the missing calls"),
    Row("reads that fail with 503 or break off", f"{_STORE}[read errors]", f"{_SAME}; none paid again"),
    Row("writes that are done but never acknowledged", f"{_STORE}[lost acknowledgements]",
        f"{_SAME}; a lease, a result and a manifest whose reply was lost are known as one's own"),
    Row("the store refuses the machine's clock",
        "tests/faults/test_object_store.py::test_a_clock_that_the_store_refuses_is_named_and_no_key_is_blamed",
        "the clock is named, and no key"),
    Row("a host two days ahead is killed, one a day behind goes on",
        "tests/faults/test_disk_and_clocks.py::"
        "test_a_host_whose_clock_is_days_behind_goes_on_after_one_that_was_days_ahead",
        f"{_SAME}; paid again ≤ calls in flight"),
    Row("the disk is full",
        "tests/faults/test_disk_and_clocks.py::test_a_full_disk_is_named_leaves_whole_files_and_no_halves",
        "whole files and no halves; the error says what to do; with space the same command goes on"),
    Row("a ledger segment is damaged",
        "tests/infra/ledger/test_ledger.py::test_a_damaged_segment_is_set_aside_and_the_rest_is_used",
        "it is set aside and named; its calls alone are paid again"),
    Row("PostgreSQL is killed and started again in mid-build", f"{_SERVICES}[False-killed0]",
        f"{_SAME}; none paid again"),
    Row("PostgreSQL and the Prefect server are killed and started again, shards on a worker",
        f"{_SERVICES}[True-killed1]", f"{_SAME}; none paid again"),
    Row("a worker is killed in mid-shard",
        "tests/flows/test_deployments.py::"
        "test_a_worker_that_is_killed_is_noticed_and_its_shards_are_taken_over",
        "its run is marked as crashed, its shards go to another; paid again ≤ calls in flight of the run"),
    Row("a shard's run is cancelled in the UI",
        "tests/faults/test_services.py::test_a_run_that_is_cancelled_in_the_ui_stops_paying_within_ten_seconds",
        "no call starts ten seconds later; the build names the shard"),
    Row("SIGTERM with calls in flight",
        "tests/flows/test_stopping.py::test_calls_in_flight_at_a_signal_are_recorded_and_none_is_paid_again",
        "calls in flight are recorded; shards wait for the next build; none paid again"),
    Row("SIGTERM of a shard on a worker",
        "tests/flows/test_stopping.py::test_a_shard_on_a_worker_that_is_stopped_waits_for_the_next_build",
        "calls in flight are recorded; the shard is waiting, not failed"),
    Row("two builds of one plan at once",
        "tests/flows/test_one_build.py::"
        "test_of_two_builds_at_once_one_pays_and_both_end_with_the_dataset",
        "one pays, the other waits and ends with the same dataset; folder and S3"),
    Row("a build on another host falls silent",
        "tests/flows/test_one_build.py::test_a_build_that_waits_takes_over_from_one_that_falls_silent",
        "the build that waits takes over; none paid again"),
    Row("a paused build wakes up after it was succeeded",
        "tests/flows/test_one_build.py::test_a_build_whose_lease_is_lost_pays_and_publishes_no_more",
        "it stops, and publishes nothing; none paid again"),
)  # fmt: skip


def measured() -> dict[str, dict[str, Any]]:
    """The figures of each test, as they were last taken."""
    figures: dict[str, dict[str, Any]] = json.loads(MEASURED.read_text())
    return figures


def page(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """README.md."""
    lines = [
        "# Faults",
        "",
        "What happens to a build when something fails around it. Each fault has a test with real parts; the figures",
        "are those of its last measured run (`python -m tests.faults.table`), on two cores that other work shared.",
        "Builds of these tests make 16 calls, four in flight. Without figures, the test alone says what holds.",
        "",
        "| fault | what holds afterwards | measured | test |",
        "|---|---|---|---|",
    ]
    for row in ROWS:
        path, _, name = row.test.partition("::")
        link = f"[{name.replace('[', ': ').rstrip(']')}](../../{path})"
        lines.append(f"| {row.fault} | {row.holds} | {_cell(figures.get(row.test, {}))} | {link} |")
    return "\n".join(lines) + "\n"


def _cell(figures: Mapping[str, Any]) -> str:
    """The figures of a test in words."""
    words = []
    if "deaths" in figures:
        words.append(f"{figures['deaths']} deaths")
    if "faults" in figures:
        words.append(f"{figures['faults']} faults")
    if "paid_again" in figures:
        words.append(f"{figures['paid_again']} calls paid again")
    if "away_s" in figures:
        words.append(f"away for {figures['away_s']:g} s")
    if "seconds_of_calls" in figures:
        words.append(f"the last call started {figures['seconds_of_calls']:g} s later")
    if "seconds" in figures:
        words.append(f"{figures['seconds']:g} s until the end of the build")
    if "message" in figures:
        words.append(f"“{figures['message']}”")
    return "; ".join(words).replace("|", "\\|").replace("\n", " ") or "—"


def main(folder: Path) -> None:
    """Take the figures of a folder into measured.json, and write the page."""
    figures = measured() if MEASURED.exists() else {}
    for path in sorted(folder.glob("*.json")):
        noted = json.loads(path.read_text())
        figures[noted.pop("test")] = noted
    MEASURED.write_text(json.dumps(dict(sorted(figures.items())), indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

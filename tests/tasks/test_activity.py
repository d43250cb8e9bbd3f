"""What a run does now: counted in each process, added up over all of them, and without keys."""

import threading

import pytest

from infra.models.protocol import Failure
from tasks.activity import LAST, Activity, together
from tasks.records.example import Drop
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import client_of, requests
from tests.support.stub_server import running_stub


def test_shards_count_while_they_are_worked_on_and_the_last_events_stay() -> None:
    activity = Activity()
    with pytest.raises(ValueError), activity.working_on(3, "a3"), activity.working_on(4, ""):
        activity.count_scored(5)
        activity.note_wait("judge", "waits 20 s")
        now = activity.to_json()
        assert (now["shards"], now["runs"], now["scored"], now["waits"]) == (
            [3, 4],
            {"3": "a3"},
            5,
            {"judge": "waits 20 s"},
        )
        raise ValueError
    for number in range(LAST + 2):
        activity.note_refusal("judge", "facts", Failure(f"k{number}", "server_error", f"{number}" + "x" * 999, False))
    activity.note_drops(3, [Drop("q1", "pair", "tie", "all rewards are 2")])
    activity.note_wait("judge", "")
    now = activity.to_json()
    assert (now["shards"], now["waits"], len(now["refused"])) == ([], {}, LAST)
    assert now["refused"][-1]["words"].startswith(f"{LAST + 1}x") and len(now["refused"][-1]["words"]) == 300
    assert [event["example_id"] for event in now["dropped"]] == ["q1"]


def test_processes_are_added_up_and_reports_of_an_earlier_version_have_less() -> None:
    events = [{"at": f"2026-11-28T12:00:{second:02d}+00:00", "words": str(second)} for second in range(2 * LAST)]
    here = {"scored": 2, "shards": [1], "runs": {"1": "a1"}, "in_flight": {"policy": 3}, "refused": events[::2]}
    there = {"scored": 3, "shards": [0], "in_flight": {"policy": 4, "judge": 1}, "refused": events[1::2]}
    total = together([here, there, {"scored": 1}])
    assert (total["scored"], total["shards"], total["runs"]) == (6, [0, 1], {"1": "a1"})
    assert total["in_flight"] == {"policy": 7, "judge": 1}
    assert total["refused"] == events[LAST:]


def test_a_refusal_has_the_servers_words_without_the_key_and_calls_in_flight_are_counted() -> None:
    activity = Activity()
    key = "content management"  # some servers repeat it, as the words of the stub do
    with running_stub(filter_word="context 0") as stub:
        stub.hold()

        def note(kind: str, failure: Failure) -> None:
            activity.note_refusal("policy", kind, failure)

        with client_of(MemoryLedger(), stub, api_key=key, failed=note) as client:
            thread = threading.Thread(target=client.complete, args=(requests(2, 1),))
            thread.start()
            stub.wait_for(2)
            assert client.in_flight == 2
            stub.release()
            thread.join(20)
    (event,) = activity.to_json()["refused"]
    assert (event["model"], event["kind"], event["reason"]) == ("policy", "sample", "content_filter")
    assert "filtered by the [key] policy" in event["words"]

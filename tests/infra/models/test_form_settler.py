"""A server that takes no such request: the first call finds out, and all others are sent in the new form."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from infra.errors import RefusedError
from infra.models.client import Reply
from infra.models.forms.request_form import RequestForm
from infra.models.forms.settler import REMEMBERED_S, FormMemory, FormSettler
from infra.models.protocol import Prompt
from infra.store import Store, open_store
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import client_of, requests
from tests.support.stub_server import running_stub

LENGTH = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
SEED = "property 'seed' is unsupported"
GIVEN = RequestForm()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def settler(store: Store, lines: list[str], given: RequestForm = GIVEN) -> FormSettler:
    return FormSettler(given, FormMemory(store, "stub", ["http://stub/v1"], given), lines.append, "policy")


def test_the_first_call_alone_meets_the_refusals_and_the_others_are_sent_right(store: Store) -> None:
    lines: list[str] = []
    ledger = MemoryLedger()
    with running_stub(refuses={"max_tokens": LENGTH, "seed": SEED}) as stub:
        form = settler(store, lines)
        with client_of(ledger, stub, concurrency=8, attempts=1, try_first=True, form=form) as client:
            outcomes = client.complete(requests(3, 4))
            assert client.counts()["sample"].made == 12 and client.counts()["sample"].retried == 0
        assert stub.requests == 12 + 2
        assert stub.fields == {"model": "stub", "max_completion_tokens": 64}
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert set(ledger.entries) == {request.key for request in requests(3, 4)}  # the keys are what was asked for
    assert [line.partition(" (")[0] for line in lines] == [
        "policy: max_tokens is sent as max_completion_tokens",
        "policy: seed is left out, so that samples cannot be repeated",
    ]
    assert all("the server says" in line for line in lines)


def test_a_server_without_tool_choice_gets_the_tools_alone(store: Store) -> None:
    """The keys stay; the tools are of the prompt. A request without tools is none of that."""
    lines: list[str] = []
    ledger = MemoryLedger()
    with_tools, without = [], requests(1, 2, text="without tools")
    for request in requests(2, 2):
        prompt = Prompt(request.prompt.messages, ({"type": "function", "function": {"name": "search"}},))
        with_tools.append(replace(request, prompt=prompt))
    with running_stub(refuses={"tool_choice": "Unrecognized request argument supplied: tool_choice"}) as stub:
        with client_of(ledger, stub, attempts=1, try_first=True, form=settler(store, lines)) as client:
            assert all(isinstance(outcome, Reply) for outcome in client.complete(with_tools))
            assert stub.requests == 4 + 1
            assert "tools" in stub.fields and "tool_choice" not in stub.fields
            assert all(isinstance(outcome, Reply) for outcome in client.complete(without))
        assert stub.requests == 4 + 1 + 2
    assert set(ledger.entries) == {request.key for request in (*with_tools, *without)}
    [line] = lines
    assert line.startswith("policy: tool_choice is left out, so that a reply which calls a tool is a refused answer")


def test_a_server_without_tools_has_the_remedy_of_the_recipe() -> None:
    prompt = Prompt(({"role": "user", "content": "Who?"},), ({"type": "function", "function": {"name": "search"}},))
    [request] = requests(1, 1)
    with (
        running_stub(refuses={"tools": "gemma:2b does not support tools"}) as stub,
        client_of(MemoryLedger(), stub, try_first=True) as client,
        pytest.raises(RefusedError, match=r"does not support tools.*set contexts\.tools: text"),
    ):
        client.complete([replace(request, prompt=prompt)])


def test_many_refusals_at_once_teach_one_lesson_once() -> None:
    lines: list[str] = []
    with running_stub(refuses={"max_tokens": LENGTH}) as stub:
        form = FormSettler(say=lines.append)
        with client_of(MemoryLedger(), stub, concurrency=16, attempts=1, form=form) as client:
            assert all(isinstance(outcome, Reply) for outcome in client.complete(requests(4, 4)))
        assert stub.requests <= 32
    assert len(lines) == 1


def test_another_process_begins_with_what_was_settled(store: Store) -> None:
    with running_stub(refuses={"seed": SEED}) as stub:
        for _ in range(2):
            lines: list[str] = []
            with client_of(MemoryLedger(), stub, try_first=True, form=settler(store, lines)) as client:
                client.complete(requests(1, 2))
            assert len(lines) == 1  # each process says it
        assert stub.requests == 3 + 2  # and one alone was refused


def test_nothing_is_read_or_called_where_the_ledger_has_all_replies(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = MemoryLedger()
    with running_stub() as stub:
        with client_of(ledger, stub) as client:
            client.complete(requests(1, 2))
        lines: list[str] = []
        form = settler(store, lines)
        monkeypatch.setattr(form, "recall", lambda: lines.append("recalled"))
        with client_of(ledger, stub, try_first=True, form=form) as client:
            client.complete(requests(1, 2))
        assert stub.requests == 2 and not lines


def test_a_real_refusal_has_the_words_of_the_server() -> None:
    with (
        running_stub(refuses={"seed": "the plan of your team has ended"}) as stub,
        client_of(MemoryLedger(), stub, try_first=True) as client,
        pytest.raises(RefusedError, match="the plan of your team has ended"),
    ):
        client.complete(requests(1, 1))


def test_a_slow_first_reply_does_not_hold_the_others_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.models.sending.scheduler.ALONE_S", 0.05)
    with running_stub() as stub:
        stub.hold()
        with (
            client_of(MemoryLedger(), stub, concurrency=8, try_first=True) as client,
            ThreadPoolExecutor(1) as pool,
        ):
            done = pool.submit(client.complete, requests(1, 4))
            stub.wait_for(4)
            stub.release()
            assert len(done.result(20)) == 4


def test_what_was_settled_is_forgotten_and_belongs_to_the_recipe_s_form(store: Store) -> None:
    memory = FormMemory(store, "m", ["http://a/v1"], GIVEN)
    form = RequestForm({"max_tokens": "max_completion_tokens"}, frozenset({"seed"}), 9)
    now = time.time()
    assert memory.read(now) is None
    memory.write(form, ["a line"], now)
    assert memory.read(now + 1) == (form, ["a line"])
    assert memory.read(now + REMEMBERED_S) is None
    assert FormMemory(store, "m", ["http://a/v1"], form).read(now) is None
    store.write(memory.path, b"{]")
    assert memory.read(now) is None


def test_a_key_in_the_server_s_words_is_not_repeated(store: Store) -> None:
    lines: list[str] = []
    form = settler(store, lines)
    with (
        running_stub(refuses={"seed": "seed is not supported for key sk-geheim-0123456789"}) as stub,
        client_of(MemoryLedger(), stub, try_first=True, form=form, api_key="sk-geheim-0123456789") as client,
    ):
        client.complete(requests(1, 1))
    assert "for key [key]" in lines[0]
    assert all(b"geheim" not in store.read(path) for path in store.list("forms")) and store.list("forms")

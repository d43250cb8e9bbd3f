"""Every case of a refusal: its class, and what it means for a run with the model client."""

from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from infra.errors import ModelError, RefusedError
from infra.models.client import Failure
from infra.models.forms.refusals import form_after
from infra.models.forms.request_form import RequestForm
from infra.models.refusals.rules import RULES, classify_refusal, error_text
from infra.running.prefect import LASTING_ERRORS
from tests.providers.cases import OUTCOMES, REFUSALS, RefusalCase
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import client_of, requests
from tests.support.stub_server import StubOptions, StubServer, running_stub

ATTEMPTS = 4


class OneResponse(StubServer):
    """Sends one response to every chat request."""

    def __init__(self, options: StubOptions) -> None:
        super().__init__(options)
        self.case = REFUSALS[0]

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.requests += 1
        return web.Response(status=self.case.status, body=self.case.raw)


@pytest.fixture(scope="module")
def server() -> Iterator[OneResponse]:
    with running_stub(make=OneResponse) as running:
        assert isinstance(running, OneResponse)
        yield running


def name_of(case: Any) -> str:
    return f"{case.subject}: {case.name}"


def test_there_is_a_case_for_every_rule_and_every_dialect() -> None:
    assert len(REFUSALS) >= 80
    assert len({(case.subject, case.name) for case in REFUSALS}) == len(REFUSALS)
    used = set()
    for case in REFUSALS:
        text = error_text(case.raw.decode())
        used.add(next((place for place, rule in enumerate(RULES) if rule.fits(case.status, text)), None))
    assert set(range(len(RULES))) <= used


@pytest.mark.parametrize("case", REFUSALS, ids=name_of)
def test_a_refusal_has_its_class_and_its_outcome(case: RefusalCase, server: OneResponse) -> None:
    server.case, server.requests = case, 0
    ledger, expected = MemoryLedger(), OUTCOMES[case.subject]
    if case.status != 200:
        assert classify_refusal(case.status, case.raw.decode()).subject == case.subject
    with client_of(ledger, server, attempts=ATTEMPTS, backoff_s=0.0001, api_key_env="OPENAI_API_KEY") as client:
        if expected.error:
            with pytest.raises(RefusedError) as caught:
                client.complete(requests(1, 1))
            message = str(caught.value)
            assert isinstance(caught.value, LASTING_ERRORS)
            assert type(caught.value).__name__ == expected.error
            assert caught.value.exit_code == expected.exit_code
            assert case.words in message
            assert case.remedy in message
            assert "the same command goes on" in message
        elif case.subject == "passing" and case.reason == "busy" and case.status not in (503, 529):
            with pytest.raises(ModelError) as stalled:  # a rate limit: it waits, as long as others get through
                client.complete(requests(1, 1))
            assert case.words in str(stalled.value)
            assert server.requests >= ATTEMPTS and not ledger.entries
            return
        else:
            (failure,) = client.complete(requests(1, 1))
            assert isinstance(failure, Failure)
            assert (failure.reason, failure.permanent) == (case.reason, case.subject == "prompt")
            assert case.words in failure.detail
    settled = forms_tried(case)
    assert (server.requests, len(ledger.entries)) == (expected.calls + settled, expected.recorded)


def forms_tried(case: RefusalCase) -> int:
    """How often a call is sent again in another form, by a server that refuses every one."""
    form, tried = RequestForm(), 0
    while settled := form_after(form, requests(1, 1)[0].parameters, case.status, case.raw.decode()):
        form, tried = settled[0], tried + 1
    return tried


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Encoding": "gzip"}, b"no gzip"),
        ({"Content-Encoding": "br"}, b"\x00\x01"),
        ({"Content-Encoding": "zstd"}, b"no zstd"),
        ({"Content-Type": "application/json; charset=utf-16"}, '{"choices": []}'.encode("utf-16")),
        ({"Content-Type": "text/event-stream"}, b'data: {"choices": []}\n\ndata: [DONE]\n\n'),
    ],
)
def test_an_encoding_that_cannot_be_read_passes_like_a_fault(headers: dict[str, str], body: bytes) -> None:
    class Encoded(StubServer):
        async def _chat(self, request: web.Request) -> web.StreamResponse:
            await request.read()
            self.requests += 1
            return web.Response(status=200, body=body, headers=headers)

    ledger = MemoryLedger()
    with (
        running_stub(make=Encoded) as server,
        client_of(ledger, server, attempts=ATTEMPTS, backoff_s=0.0001) as client,
    ):
        (failure,) = client.complete(requests(1, 1))
        assert isinstance(failure, Failure)
        assert not failure.permanent
        assert (server.requests, len(ledger.entries)) == (ATTEMPTS, 0)

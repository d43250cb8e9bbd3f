"""Refusals in the ledger: what is kept beside the server's words, and which of them are due again."""

import json

import pytest

from infra.ledger import Entry
from infra.models import completions
from infra.models.refusals import recorded as recorded_refusals
from infra.models.refusals.recorded import FIELD, CalledModel, RecordedRefusals, listing_of, with_listing
from infra.models.refusals.rules import classify_refusal, error_text, recorded_body, refusal_message
from infra.models.served_window import Listing, listing_in
from tests.providers.cases import REFUSALS

URL = "http://127.0.0.1:9/v1"
TOO_LONG = '{"error":{"message":"This model\'s maximum context length is 512 tokens."}}'
FILTERED = '{"error":{"message":"filtered","code":"content_filter"}}'
ODD = '{"error":{"message":"I do not like it"}}'
NO_PARAMETER = '{"error":{"message":"Unsupported parameter: \'max_tokens\'","code":"unsupported_parameter"}}'


def refusal(body: str, status: int = 400, key: str = "k") -> Entry:
    return Entry(key, "sample", "m", "main", status, body, 0, 0, 0.1, 1.8e9)


def body_of(*models: tuple[str, int | None]) -> bytes:
    return json.dumps({"data": [{"id": name, "max_model_len": window} for name, window in models]}).encode()


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The lists of models by URL; an endpoint without one does not answer."""
    by_url: dict[str, bytes] = {}

    def read(url: str, api_key: str | None, headers: object) -> bytes:
        if url not in by_url:
            raise ConnectionRefusedError(url)
        return by_url[url]

    monkeypatch.setattr(recorded_refusals, "read_models", read)
    return by_url


def refusals(*urls: str, retry: bool = False, lines: list[str] | None = None) -> RecordedRefusals:
    say = lines.append if lines is not None else None
    return RecordedRefusals([CalledModel("m", urls or (URL,), None, {})], retry=retry, say=say)


def test_the_words_and_the_class_of_every_refusal_stay_what_they_are() -> None:
    for case in REFUSALS:
        body = recorded_body(case.raw.decode("utf-8", "replace"))
        recorded = with_listing(body, Listing(True, 512))
        assert classify_refusal(case.status, recorded) == classify_refusal(case.status, body) or not body.strip(), (
            case.name
        )
        assert refusal_message(recorded) == refusal_message(body) or not body.strip(), case.name
        assert listing_of(recorded) == Listing(True, 512), case.name
        json.loads(recorded)


ODD_BODIES = (
    "{}",
    ' {"error": "no"} \n',
    '[{"error":{"message":"no"}}]',
    '"no"',
    "no",
    "<p>no</p>",
    '{"a": NaN}',
    "7",
    "null",
    "",
)


@pytest.mark.parametrize("body", ODD_BODIES)
def test_any_body_can_have_a_listing(body: str) -> None:
    recorded = with_listing(body, Listing(False))
    assert json.loads(recorded)[FIELD] == {"listed": False, "max_model_len": None}
    assert refusal_message(recorded) == refusal_message(body) or not refusal_message(body)
    assert FIELD not in error_text(recorded)


def test_a_body_without_words_and_with_half_a_character_can_be_recorded() -> None:
    body = '{"error": {"message": null, "type": ["\\ud800"], "code": "invalid_prompt"}}'
    recorded = with_listing(body, None)
    recorded.encode()
    assert classify_refusal(400, recorded).reason == "content_filter"


def test_a_body_that_is_an_object_stays_byte_for_byte() -> None:
    assert with_listing(ODD, None) == f'{ODD[:-1]},"{FIELD}":null}}'


def test_what_a_list_of_models_says() -> None:
    assert listing_in(body_of(("a", None), ("m", 512)), "m") == Listing(True, 512)
    assert listing_in(body_of(("a", 7)), "m") == Listing(False)
    assert listing_in(body_of(("m", None)), "m") == Listing()
    for odd in (b"", b"[]", b"<html>", b'{"data": 7}', b'{"data": [7]}', b'{"object": "list"}'):
        assert listing_in(odd, "m") is None


def test_a_prompt_that_was_too_long_is_due_when_the_window_is_another(lists: dict[str, bytes]) -> None:
    lists[URL] = body_of(("m", 512))
    first = refusals()
    entry = refusal(first.to_record(TOO_LONG, "m", URL, "k"))
    assert not first.is_due(entry)
    assert not refusals().is_due(entry)
    lists[URL] = body_of(("m", 8192))
    lines: list[str] = []
    second = refusals(lines=lines)
    assert second.is_due(entry) and second.is_due(entry)
    assert lines == [
        "m is served with max_model_len 8,192, and was with max_model_len 512: what it refused then is tried again"
    ]
    again = refusal(second.to_record(TOO_LONG, "m", URL, "k"))
    assert not second.is_due(again)
    assert not refusals().is_due(again)


def test_a_content_filter_is_due_with_retry_alone(lists: dict[str, bytes]) -> None:
    lists[URL] = body_of(("m", 512))
    entry = refusal(refusals().to_record(FILTERED, "m", URL, "k"))
    lists[URL] = body_of(("m", 8192))
    assert not refusals().is_due(entry)
    retrying = refusals(retry=True)
    assert retrying.is_due(entry)
    again = refusal(retrying.to_record(FILTERED, "m", URL, "k"))
    assert not retrying.is_due(again), "a run tries a call again once"
    assert refusals(retry=True).is_due(again)


def test_an_endpoint_that_says_nothing_makes_nothing_due(lists: dict[str, bytes]) -> None:
    entry = refusal(refusals().to_record(TOO_LONG, "m", URL, "k"))
    assert not refusals().is_due(entry)
    lists[URL] = body_of(("m", None))  # a provider's list
    assert not refusals().is_due(entry)
    lists[URL] = b"<html>"
    assert not refusals().is_due(entry)
    lists[URL] = body_of(("m", 8192))
    assert refusals().is_due(entry)


def test_one_endpoint_that_is_as_it_was_is_enough_to_keep_a_refusal(lists: dict[str, bytes]) -> None:
    other = "http://127.0.0.1:10/v1"
    lists |= {URL: body_of(("m", 512)), other: body_of(("m", 8192))}
    entry = refusal(refusals(URL, other).to_record(TOO_LONG, "m", URL, "k"))
    assert not refusals(URL, f"{other}/").is_due(entry)
    del lists[URL]
    assert refusals(URL, other).is_due(entry)
    assert not RecordedRefusals([CalledModel("another", (other,), None, {})]).is_due(entry)


def test_refusals_of_earlier_versions_are_due_once_where_a_window_is_told(lists: dict[str, bytes]) -> None:
    lists[URL] = body_of(("m", None))
    assert not refusals().is_due(refusal(TOO_LONG))
    assert not refusals().is_due(refusal(ODD))
    assert refusals().is_due(refusal(NO_PARAMETER)), "a refusal of the form is no outcome of a prompt"
    lists[URL] = body_of(("m", 4096))
    assert refusals().is_due(refusal(TOO_LONG))
    assert refusals().is_due(refusal(ODD))
    assert not refusals().is_due(refusal(FILTERED))
    mended = refusals()
    assert not refusals().is_due(refusal(mended.to_record(TOO_LONG, "m", URL, "k")))


def test_a_form_that_was_refused_for_another_one_stays(lists: dict[str, bytes]) -> None:
    lists[URL] = body_of(("m", 4096))
    for body in (NO_PARAMETER, ODD):
        assert not refusals().is_due(refusal(body), has_alternative=True)
        assert not refusals(retry=True).is_due(refusal(body), has_alternative=True)
    assert refusals(retry=True).is_due(refusal(TOO_LONG), has_alternative=True)


def test_a_reply_that_was_cut_short_is_due_with_retry_alone(lists: dict[str, bytes]) -> None:
    for ending, name in completions._NAMES.items():
        body = json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": ending.upper()}]})
        entry = refusal(body, status=200)
        assert completions.read_completion(body).finish_reason == name
        assert refusals(retry=True).is_due(entry) == (name in ("abort", "error", "content_filter")), ending
        assert not refusals().is_due(entry)
        run = refusals(retry=True)
        run.count_recorded(entry.key)
        assert not run.is_due(entry)
    quoting = json.dumps({"choices": [{"message": {"content": '"finish_reason": "abort"'}, "finish_reason": "stop"}]})
    assert not refusals(retry=True).is_due(refusal(quoting, status=200))


def test_a_reply_is_never_due(lists: dict[str, bytes]) -> None:
    lists[URL] = body_of(("m", 4096))
    assert not refusals(retry=True).is_due(refusal('{"choices": []}', status=200))


def test_a_list_is_read_once_and_only_for_a_refusal(lists: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def count(url: str, *more: object) -> bytes:
        read.append(url)
        return body_of(("m", 512))

    monkeypatch.setattr(recorded_refusals, "read_models", count)
    run = refusals()
    run.is_due(refusal("{}", status=200))
    assert read == []
    for number in range(5):
        run.is_due(refusal(TOO_LONG, key=str(number)))
        run.to_record(TOO_LONG, "m", URL, str(number))
    assert read == [URL]

"""The lines of batch files, as servers may write them."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.models.batches.lines import read_outcomes, request_line, route_of
from infra.models.sending.transport import Recordable, TemporaryFailure, classify_response
from tests.support.requests import requests

KEY = "a" * 64


def outcome(**fields):
    (line,) = read_outcomes(io.BytesIO(json.dumps({"custom_id": KEY, **fields}, ensure_ascii=False).encode()))
    return line


@pytest.mark.parametrize(
    ("url", "route"),
    [
        ("https://api.openai.com/v1", "/v1/chat/completions"),
        ("https://open.bigmodel.cn/api/paas/v4", "/v4/chat/completions"),
        ("http://127.0.0.1:8000", "/chat/completions"),
    ],
)
def test_the_route_has_the_version_of_the_endpoint(url, route):
    assert route_of(url) == route


def test_a_request_line_holds_the_body_of_a_live_call():
    request = requests(1, 1)[0]
    line = json.loads(request_line(request.key, "/v1/chat/completions", request.body()))
    assert line == {
        "custom_id": request.key,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": json.loads(request.body()),
    }


@pytest.mark.parametrize("text", ["two\u2028lines", "水", "half \ud83d of a pair", "\x85", ""])
def test_texts_come_through_whatever_their_characters(text):
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    line = json.dumps({"custom_id": KEY, "response": {"status_code": 200, "body": body}}, ensure_ascii="\ud83d" in text)
    (read,) = read_outcomes(io.BytesIO(line.encode() + b"\n"))
    result = classify_response(read.response)
    assert isinstance(result, Recordable)
    assert result.completion.text == text.replace("\ud83d", "\ufffd")


def test_errors_have_statuses():
    for code in ("batch_expired", "batch_cancelled", "request_timeout"):
        assert outcome(response=None, error={"code": code, "message": "not run"}).response is None
    assert outcome(response=None, error={"code": "429", "message": "slow"}).response.status == 429
    unknown = outcome(response=None, error={"code": "server_error", "message": "oh"})
    assert isinstance(classify_response(unknown.response), TemporaryFailure)
    assert outcome(response={"status_code": 0, "body": None}, error=None).response is None  # seen at OpenAI
    assert outcome().response is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "body", "status_code"]), inner)
    ),
    max_leaves=8,
)


@pytest.mark.medium
@given(st.lists(st.binary(max_size=30) | _JSON | st.fixed_dictionaries({"custom_id": _JSON, "response": _JSON})))
def test_no_file_is_an_error(lines):
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    for line in read_outcomes(io.BytesIO(b"\n".join(raw))):
        assert isinstance(line.key, str)
        if line.response is not None:
            classify_response(line.response)

"""Requests, their keys, and the reading of replies."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import LedgerError
from infra.ledger import Entry
from infra.models.completions import BadReply, read_completion
from infra.models.protocol import Failure, Prompt, Reply, Request, parse_reply
from infra.models.refusals.rules import refusal_message

PARAMETERS = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 64, "seed": 11}


def request(**changes):
    settings = {
        "kind": "sample",
        "model": "m",
        "revision": "r",
        "prompt": Prompt(({"role": "user", "content": "Où est l'été? 🌞"},)),
        "parameters": PARAMETERS,
        "sample_index": 3,
        "affinity": "c",
    }
    return Request(**(settings | changes))


def entry(status, reply):
    return Entry("ab" * 32, "sample", "m", "r", status, reply, 5, 2, 0.1, 1.0)


def test_the_key_of_a_request_never_changes():
    # The canonical bytes, written by hand; a change here would pay for every call again.
    messages = '[{"content":"Où est l\'été? 🌞","role":"user"}]'
    digest = hashlib.sha256(messages.encode()).hexdigest()
    identity = (
        f'{{"messages":"{digest}","model":"m",'
        '"parameters":{"max_tokens":64,"seed":11,"temperature":0.7,"top_p":1.0},"revision":"r","sample_index":3}'
    )
    assert request().key == hashlib.sha256(identity.encode()).hexdigest()
    assert request().key == "d906d5621a2442b5e4d5b72d27491ab5f27e4e2d6623a503e1048f79d99f23d0"


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"revision": "s"},
        {"prompt": Prompt(({"role": "user", "content": "x"},))},
        {"prompt": Prompt(({"role": "system", "content": "Où est l'été? 🌞"},))},
        {"parameters": PARAMETERS | {"seed": 12}},
        {"parameters": PARAMETERS | {"logprobs": True}},
        {"sample_index": 4},
    ],
)
def test_what_decides_an_answer_decides_the_key(change):
    assert request(**change).key != request().key


@pytest.mark.parametrize("change", [{"kind": "greedy"}, {"affinity": "d"}])
def test_how_a_call_is_sent_stays_out_of_the_key(change):
    assert request(**change).key == request().key


@given(st.text(st.characters(exclude_categories=["Cs"])), st.dictionaries(st.sampled_from("abc"), st.integers()))
def test_a_body_is_the_json_of_messages_model_and_parameters(text, parameters):
    messages = ({"role": "user", "content": text},)
    body = json.loads(request(prompt=Prompt(messages), parameters=parameters).body())
    assert body == {"messages": list(messages), "model": "m", **parameters}


def test_a_completion_is_read():
    raw = json.dumps(
        {
            "choices": [{"message": {"content": "hi"}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2},
        }
    )
    reply = parse_reply(entry(200, raw))
    assert reply == Reply("ab" * 32, "hi", "length", 5, 2, True, raw)


def test_a_null_content_is_an_empty_completion():
    assert read_completion('{"choices":[{"message":{"content":null},"finish_reason":"stop"}]}').text == ""


def test_half_a_surrogate_pair_is_replaced():
    text = read_completion('{"choices":[{"message":{"content":"a\\ud83cb \\ud83c\\udf1e"}}]}').text
    assert text == "a\ufffdb 🌞"


@pytest.mark.parametrize(
    "raw", ["", "<html>", "[]", "null", "{}", '{"choices":[]}', '{"choices":[{"message":{"content":[1]}}]}']
)
def test_a_body_that_is_no_completion_is_an_error(raw):
    with pytest.raises(BadReply):
        read_completion(raw)


def test_an_entry_that_holds_no_completion_is_an_error_and_not_paid_again():
    with pytest.raises(LedgerError, match="abab"):
        parse_reply(entry(200, "<html>"))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("This model's maximum context length is 4096 tokens. However, you requested 64 output", "prompt_too_long"),
        ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", "prompt_too_long"),
        ("The response was filtered by Azure OpenAI's content management policy.", "content_filter"),
        ("temperature must be non-negative", "bad_request"),
    ],
)
def test_the_reason_of_a_refusal_is_read_from_its_text(message, reason):
    body = json.dumps({"error": {"message": message, "code": 400}})
    assert parse_reply(entry(400, body)) == Failure("ab" * 32, reason, message, True)


@pytest.mark.parametrize(
    ("body", "message"),
    [('{"detail":"no"}', "no"), ('{"message":"no"}', "no"), ("no", "no"), ("[1]", "[1]"), ('{"error":"no"}', "no")],
)
def test_error_bodies_of_all_shapes_have_a_message(body, message):
    assert refusal_message(body) == message

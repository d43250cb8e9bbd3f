"""What a refusal asks for, in the words of many servers; what is no matter of form stays a refusal."""

import json

import pytest

from infra.models.forms.refusals import INT32_MAX, form_after
from infra.models.forms.request_form import RequestForm

SENT = {"max_tokens": 64, "temperature": 0.7, "top_p": 1.0, "seed": INT32_MAX, "tool_choice": "none"}
RENAMED = {"rename": {"max_tokens": "max_completion_tokens"}}
O_SERIES = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
ONE_TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported."
)
MISTRAL = {
    "object": "error",
    "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "no"}]},
}
BOUNDED = {"detail": [{"type": "less_than_equal", "loc": ["body", "seed"], "msg": "less than or equal to 65535"}]}
VLLM_LIKE = "[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs are not permitted'}]"
LITELLM = "litellm.UnsupportedParamsError: openai does not support parameters: ['seed', 'temperature'], for model=o1."


def openai(message: str, param: str | None = None) -> str:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}})


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (openai(O_SERIES, "max_tokens"), RENAMED),
        (openai(O_SERIES), RENAMED),
        (openai("max_tokens is not supported; use max_output_tokens"), {"rename": {"max_tokens": "max_output_tokens"}}),
        (openai(ONE_TEMPERATURE, "temperature"), {"omit": {"temperature"}}),
        (openai("`temperature` is deprecated for this model."), {"omit": {"temperature"}}),
        (openai("`temperature` and `top_p` cannot both be specified. Use only one."), {"omit": {"top_p"}}),
        (json.dumps({"error": "Input validation error: `top_p` must be > 0.0 and < 1.0"}), {"omit": {"top_p"}}),
        (json.dumps(MISTRAL), {"omit": {"seed"}}),
        (openai(VLLM_LIKE), {"omit": {"seed"}}),
        (
            json.dumps([{"error": {"message": 'Invalid JSON. Unknown name "seed": Cannot find field.'}}]),
            {"omit": {"seed"}},
        ),
        (openai("property 'seed' is unsupported"), {"omit": {"seed"}}),
        (openai("参数 seed 不支持"), {"omit": {"seed"}}),
        (openai("Unrecognized request argument supplied: tool_choice"), {"omit": {"tool_choice"}}),
        (
            json.dumps({"detail": [{"type": "enum", "loc": ["body", "tool_choice"], "msg": "Input should be 'auto'"}]}),
            {"omit": {"tool_choice"}},
        ),
        (openai(LITELLM), {"omit": {"seed", "temperature"}}),
        (json.dumps(BOUNDED), {"seed_limit": 65535}),
        (openai("InvalidParameter: The seed must be in the range of [0, 10000]"), {"seed_limit": 10000}),
        (openai("seed must be an int32"), {"seed_limit": INT32_MAX}),
    ],
)
def test_a_field_that_longmill_sends_by_itself_is_settled(body: str, form: dict[str, object]) -> None:
    settled = form_after(RequestForm(), SENT, 400, body)
    assert settled is not None
    assert settled[0] == RequestForm(**{**form, "omit": frozenset(form.get("omit", ()))})  # type: ignore[arg-type]
    assert "the server says" in settled[1]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, openai("This model's maximum context length is 512 tokens, 1436 in the messages, 64 in max_tokens.")),
        (400, openai("max_tokens is too large: 64. This model supports at most 16 completion tokens.")),
        (400, openai("'top_k' is not supported with this model", "top_k")),
        (400, openai("temperature must be between 0 and 0.5")),
        (400, openai("Invalid 'messages': seed is not supported", "messages")),
        (403, openai("seed is not supported")),
        (400, "<html>bad request</html>"),
        (400, openai("Unrecognized request argument supplied: tools")),
        (400, openai('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')),
    ],
)
def test_other_refusals_stay_refusals(status: int, body: str) -> None:
    assert form_after(RequestForm(), SENT, status, body) is None


def test_a_top_p_that_is_a_bound_is_not_left_out_for_its_range() -> None:
    body = openai("`temperature` and `top_p` cannot both be specified for this model.")
    assert form_after(RequestForm(), {**SENT, "top_p": 0.9}, 400, body) is None


def test_a_limit_on_the_length_is_always_sent() -> None:
    form = RequestForm({"max_tokens": "max_completion_tokens"})
    assert form_after(form, SENT, 400, openai("max_completion_tokens is not supported")) is None


def test_a_seed_that_is_refused_after_it_was_folded_is_left_out() -> None:
    settled = form_after(RequestForm(seed_limit=65535), SENT, 422, json.dumps(BOUNDED))
    assert settled is not None and settled[0].omit == {"seed"}


def test_a_field_that_was_not_sent_is_not_looked_for() -> None:
    assert form_after(RequestForm(), {"max_tokens": 64}, 400, openai("seed is not supported")) is None

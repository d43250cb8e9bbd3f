"""Parameters of a model: what of them is in the ledger key, what in the body, and what in the headers."""

import json

import pytest

from infra.errors import PrerequisiteError
from infra.models.forms.request_form import RequestForm, headers_of, parameters_of, prompt_for
from infra.models.protocol import Prompt, Request
from infra.recipe import Model

OWN = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 1024, "seed": 5}
PROMPT = Prompt(({"role": "user", "content": "Who?"},))
KEY = "13589e2eb448fadaa9bbf22edf002d3ea72be78f1b79c9321aa5428c06c5008f"  # of a recipe without any of these keys


def model_with(**settings: object) -> Model:
    return Model.model_validate(
        {"name": "m", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:9/v1"], **settings}
    )


def request_of(model: Model) -> Request:
    prompt = prompt_for(model, PROMPT)
    return Request("sample", model.name, model.revision, prompt, parameters_of(model, OWN), 0, "context")


def sent(model: Model) -> dict[str, object]:
    body: dict[str, object] = json.loads(RequestForm.of(model).body(request_of(model)))
    return body


def test_the_key_of_a_model_without_these_settings_never_changes() -> None:
    assert request_of(model_with()).key == KEY
    assert RequestForm.of(model_with()).body(request_of(model_with())) == request_of(model_with()).body()


@pytest.mark.parametrize(
    "settings",
    [
        {"rename": {"max_tokens": "max_completion_tokens"}},
        {"omit": ["seed"]},
        {"headers": {"X-Team": "TEAM"}},
        {"organization": "org-1"},
        {"requests_per_minute": 20, "tokens_per_minute": 1000},
    ],
)
def test_how_a_request_is_sent_is_no_part_of_its_key(settings: dict[str, object]) -> None:
    assert request_of(model_with(**settings)).key == KEY


@pytest.mark.parametrize(
    "settings", [{"parameters": {"top_k": 20}}, {"system": "Be brief."}, {"omit": ["temperature"]}, {"omit": ["top_p"]}]
)
def test_what_decides_the_reply_is_part_of_the_key(settings: dict[str, object]) -> None:
    assert request_of(model_with(**settings)).key != KEY


def test_the_body_has_further_fields_other_names_and_not_what_is_left_out() -> None:
    further = {"top_k": 20, "chat_template_kwargs": {"enable_thinking": False}}
    model = model_with(parameters=further, rename={"max_tokens": "max_completion_tokens"}, omit=["seed", "top_p"])
    assert sent(model) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Who?"}],
        "temperature": 0.7,
        "max_completion_tokens": 1024,
        **further,
    }


def test_a_system_prompt_stands_before_the_prompt() -> None:
    model = model_with(system="Be brief.")
    assert sent(model)["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]


def test_a_seed_is_folded_into_the_range_of_the_server() -> None:
    request = Request("sample", "m", "main", PROMPT, {**OWN, "seed": 70_000}, 0, "context")
    assert json.loads(RequestForm(seed_limit=65_535).body(request))["seed"] == 70_000 - 65_536


def test_headers_have_their_values_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with(headers={"x-team": "TEAM_OF_TEST"}, organization="org-1")
    with pytest.raises(PrerequisiteError, match=r"policy\.headers: x-team needs .* TEAM_OF_TEST"):
        headers_of(model, "policy")
    monkeypatch.setenv("TEAM_OF_TEST", "seven\n")
    assert headers_of(model, "policy") == {"Openai-Organization": "org-1", "X-Team": "seven"}
    monkeypatch.setenv("TEAM_OF_TEST", "sk-“geheim”")
    with pytest.raises(PrerequisiteError) as caught:
        headers_of(model, "policy")
    assert "geheim" not in str(caught.value)

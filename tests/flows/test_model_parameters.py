"""A build with every key of a model's requests, against a server that refuses two fields: nothing is paid twice."""

import json
from pathlib import Path

import pytest

from flows.bench.common import stub_recipe, write_questions
from flows.build import build
from flows.shard import shard_recipe
from infra.store import open_store
from tests.flows.test_secrets import everything_in, everything_in_prefect
from tests.support.stub_server import running_stub

pytestmark = pytest.mark.medium

SECRET = "geheim-0123456789"
REFUSES = {
    "max_tokens": "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
    "temperature": "Unsupported value: 'temperature' does not support 0.7. Only the default (1) value is supported.",
}


@pytest.mark.usefixtures("prefect")
def test_a_model_of_its_own_manner_is_asked_as_the_recipe_and_its_server_say(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_KEY_OF_TEST", SECRET)
    write_questions(folder / "questions.jsonl", 6, 300)
    with running_stub(refuses=REFUSES) as stub:
        policy = {
            "system": "Answer briefly.",
            "parameters": {"top_k": 20},
            "omit": ["top_p"],
            "headers": {"x-gateway-key": "GATEWAY_KEY_OF_TEST"},
            "organization": "org-1",
        }
        execution = {"shard_size": 3, "task_retries": 0, "attempts": 2}
        recipe = stub_recipe(folder, stub.url, policy=policy, execution=execution, sampling={"samples": 4})
        built = build(shard_recipe(recipe))
        assert stub.requests == 24 + 2  # one call was refused, twice
        again = build(shard_recipe(recipe))
        assert stub.requests == 26
        assert stub.fields.keys() == {"model", "top_k", "seed", "max_completion_tokens"}
        assert stub.headers["X-Gateway-Key"] == SECRET and stub.headers["Openai-Organization"] == "org-1"
    assert [line.partition(" (")[0] for line in built["settled"]["policy"]] == [
        "max_tokens is sent as max_completion_tokens",
        "temperature is left out, the model's own decides",
    ]
    assert "settled" not in again and again["dataset"]["sha256"] == built["dataset"]["sha256"]
    store = open_store(recipe.store)
    row = rows(store)[0]
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert row["prompt"][0]["content"] == "Answer briefly."
    stored = everything_in(Path(recipe.store))
    assert b"GATEWAY_KEY_OF_TEST" in stored and SECRET.encode() not in stored
    assert SECRET not in everything_in_prefect() and SECRET not in json.dumps(built)


def rows(store):
    paths = [path for path in store.list("datasets") if "/data/" in path and path.endswith(".parquet")]
    return [row for path in paths for row in store.read_table(path, ["prompt"]).to_pylist()]

"""Requests for the stub server, and a client with short back-offs."""

from typing import Any

from flows.bench.stub_server import MODEL
from infra.models.client import ModelClient
from infra.models.protocol import Prompt, Request
from tests.support.memory_ledger import MemoryLedger
from tests.support.stub_server import StubServer


def prompt(text: str) -> Prompt:
    return Prompt(({"role": "user", "content": text},))


def requests(contexts: int, samples: int, *, model: str = MODEL, kind: str = "sample", text: str = "") -> list[Request]:
    """`samples` requests for each context; prompts begin with "context 0", "context 1", ..."""
    batch = []
    for number in range(contexts):
        shared_prompt = prompt(f"context {number} of words that make an answer {text}")
        for index in range(samples):
            parameters = {"max_tokens": 64, "seed": index}
            batch.append(Request(kind, model, "main", shared_prompt, parameters, index, f"context {number}"))
    return batch


def client_of(ledger: MemoryLedger, *stubs: StubServer | str, **settings: Any) -> ModelClient:
    """A client whose back-offs are short enough for a test."""
    urls = [stub if isinstance(stub, str) else stub.url for stub in stubs]
    return ModelClient(urls, settings.pop("api_key", None), ledger, **({"backoff_s": 0.005} | settings))

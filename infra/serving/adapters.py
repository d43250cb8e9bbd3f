"""LoRA adapters, loaded into running servers. A server that Longmill looks after gets them again after a restart."""

import time
import urllib.error
from pathlib import Path

from infra.errors import ServingError
from infra.serving import local_http, records
from infra.serving.records import Adapter, ServerRecord

_LOAD_S = 120.0  # for loading one adapter
_SETTLE_S = 10.0  # until a fault of the server shows in its record; vLLM takes some seconds to end
_POLL_S = 0.2


def load_adapter(url: str, name: str, folder: Path, api_key: str | None = None) -> None:
    """Load a LoRA adapter into a running vLLM under `name`. Raises ServingError with the server's message.

    Waits while the server is being started again. A restart after this call loads the adapter again.
    """
    adapter = Adapter(name, str(folder.resolve()))
    while True:
        before = _record_when_up(url)
        try:
            post_adapter(url, adapter, api_key)
        except ServingError:
            if before is None or not _changes(before):
                raise
            continue
        if before is None:
            return
        records.add_adapter(before.port, adapter)
        after = records.read_record(url)
        if after is None or after.restarts == before.restarts:  # else the restart may not have seen the adapter
            return


def _record_when_up(url: str) -> ServerRecord | None:
    """The record of a server that Longmill looks after, once it may be called. Raises ServingError if it has failed."""
    while True:
        record = records.read_record(url)
        if record is None or record.state == "up":
            return record
        if record.state == "failed":
            raise ServingError(record.message)
        if record.state == "waiting":
            records.call_server(record.port)
        time.sleep(_POLL_S)


def _changes(before: ServerRecord) -> bool:
    """Whether the server turns out to be started again, or given up, soon after `before` was read."""
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline:
        record = records.read_record(before.url)
        if record is None or record.state != "up" or record.restarts != before.restarts:
            return True
        time.sleep(_POLL_S)
    return False


def post_adapter(url: str, adapter: Adapter, api_key: str | None = None) -> None:
    """Tell a server to load an adapter; one that it has loaded already is fine. Raises ServingError."""
    body = {"lora_name": adapter.name, "lora_path": adapter.folder}
    try:
        local_http.post(f"{url}/load_lora_adapter", body, _LOAD_S, api_key)
    except urllib.error.HTTPError as error:
        message = error.read().decode(errors="replace")
        if "already been loaded" in message:
            return
        raise ServingError(f"{url} did not load the adapter {adapter.folder}: {message[:500]}") from error
    except OSError as error:
        raise ServingError(f"{url} did not load the adapter {adapter.folder}: {error}") from error

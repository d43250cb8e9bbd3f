"""What is written down about the servers that Longmill looks after, for all processes of this user on this machine.

A server has a folder, named by its port, with `record.json` (its state, and the process that looks after it),
`adapters.jsonl` (the adapters to load again when it is started again) and, once a client has a call for a server that
waits for one, `called`. A client whose call fails reads here whether the server is being started again; a run finds the
servers of `longmill serve` here. A record whose process has ended counts for nothing, so a killed run leaves no lie.
Leaves out: servers that others run, which have no record.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from infra.errors import PrerequisiteError

State = Literal["waiting", "starting", "up", "restarting", "failed"]  # waiting: for the first call
_URL = re.compile(r"http://127\.0\.0\.1:(\d+)/v1/?")


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """A server's state. `restarts` grows with every restart, so a client sees that one lies between two calls."""

    port: int
    state: State
    restarts: int = 0
    message: str = ""  # why it failed
    shared: str = ""  # which model, for runs that may use it (see servers.py); "" for one run's own server
    pid: int = 0  # of the process that looks after it
    pid_started: str = ""  # when that process started, in the system's ticks: a pid may be given again

    @property
    def url(self) -> str:
        """The base URL of the server."""
        return f"http://127.0.0.1:{self.port}/v1"


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter that a server has loaded."""

    name: str
    folder: str


def write_record(record: ServerRecord) -> None:
    """Write a server's record, in one step; this process looks after it."""
    pid = os.getpid()
    settings = asdict(record) | {"pid": pid, "pid_started": _start_of(pid)}
    folder = _own_folder(record.port)
    draft = folder / "record.json.new"
    draft.write_text(json.dumps(settings))
    draft.replace(folder / "record.json")


def remove_record(port: int) -> None:
    """The server has ended in order."""
    shutil.rmtree(_folder(port), ignore_errors=True)


def read_record(url: str) -> ServerRecord | None:
    """The record of the server at `url`; None when Longmill looks after no such server."""
    match = _URL.fullmatch(url)
    return _read(_folder(int(match[1]))) if match else None


def shared_records(model: str) -> list[ServerRecord]:
    """The records of servers that serve `model` for several runs, by port."""
    records = []
    for folder in sorted(_root().glob("[0-9]*")):
        record = _read(folder)
        if record is not None and record.shared == model and record.state != "failed":
            records.append(record)
    return records


def add_adapter(port: int, adapter: Adapter) -> None:
    """Write down that the server has loaded an adapter."""
    with (_own_folder(port) / "adapters.jsonl").open("a") as file:
        file.write(json.dumps(asdict(adapter)) + "\n")


def read_adapters(port: int) -> list[Adapter]:
    """The adapters that the server had loaded, once each."""
    adapters: dict[str, Adapter] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (_folder(port) / "adapters.jsonl").read_text().splitlines():
            adapter = Adapter(**json.loads(line))
            adapters[adapter.name] = adapter
    return list(adapters.values())


def forget_earlier(port: int) -> None:
    """A new server begins without adapters and calls, whatever an earlier one on its port had."""
    for name in ("adapters.jsonl", "called"):
        (_folder(port) / name).unlink(missing_ok=True)


def call_server(port: int) -> None:
    """There is a call for a server that waits for one: whoever looks after it starts it."""
    (_own_folder(port) / "called").touch()


def is_called(port: int) -> bool:
    """Whether a client has a call for the server."""
    return (_folder(port) / "called").exists()


def _root() -> Path:
    return Path(tempfile.gettempdir()) / f"longmill-{os.getuid()}" / "servers"


def _folder(port: int) -> Path:
    return _root() / str(port)


def _own_folder(port: int) -> Path:
    """The server's folder, made if need be; it and those above it are this user's alone."""
    folder = _folder(port)
    top = _root().parent
    top.mkdir(mode=0o700, parents=True, exist_ok=True)
    if top.stat().st_uid != os.getuid() or top.is_symlink():
        raise PrerequisiteError(f"{top}: it belongs to another user; set TMPDIR to a folder of your own")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _read(folder: Path) -> ServerRecord | None:
    """The record in a server's folder, if its process lives and the folder is this user's."""
    path = folder / "record.json"
    try:
        if path.stat().st_uid != os.getuid():
            return None
        record = ServerRecord(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    alive = record.pid_started != "" and record.pid_started == _start_of(record.pid)
    return record if alive else None


def _start_of(pid: int) -> str:
    """When a process started, in ticks since the system did; "" when it has ended."""
    with contextlib.suppress(OSError, IndexError):
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""

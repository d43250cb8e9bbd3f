"""A stand-in for the hub: repositories in memory behind the calls that huggingface_hub makes to send files.

Creating a repository, its tree, the check of a card, how each file is to be sent, the LFS batch, the bytes, the commit,
the tag, and reading a file.
"""

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.support.http_server import http_server

TOKEN = "hf_a-token-that-nobody-prints"
_REPOSITORY = re.compile(r"/api/(datasets|models)/([\w.-]+/[\w.-]+)(?:/([a-z]+)(?:/.*)?)?")
_FILE = re.compile(r"/(?:datasets/)?([\w.-]+/[\w.-]+)/resolve/\w+/(.+)")
_LFS = (".parquet", ".safetensors", ".png")


@dataclass
class HubRepository:
    """A repository: its files by path, its commits (message, description, files), its tags."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[tuple[str, str, list[str]]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Hub:
    """The hub, and what it was sent."""

    url: str = ""
    repositories: dict[str, HubRepository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # of LFS, by sha256
    uploads: list[str] = field(default_factory=list)  # the sha256 of each file of LFS that was sent
    tokens: set[str] = field(default_factory=set)
    licences: tuple[str, ...] = ("apache-2.0", "cc-by-4.0")
    broken_uploads: int = 0  # how many of the next uploads fail
    writes: int = 0  # requests that change something

    def reply(self, method: str, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        """(status, JSON or bytes, headers) of a request."""
        path, _, _ = path.partition("?")
        self.writes += method in ("POST", "PUT") and path != "/api/validate-yaml"
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            status = 409 if name in self.repositories else 200
            self.repositories.setdefault(name, HubRepository(asked["visibility"] == "private"))
            return status, {"url": f"{self.url}/{name}"}, {}
        if path == "/api/validate-yaml":
            licence = re.search(r"^license: (.+)$", json.loads(body)["content"], re.MULTILINE)
            if licence and licence.group(1) not in self.licences:
                message = f'"license" must be one of {list(self.licences)}'
                return 400, {"errors": [{"message": message}], "warnings": []}, {}
            return 200, {"errors": [], "warnings": []}, {}
        if path.startswith("/upload/"):
            return self._upload(path.removeprefix("/upload/"), body)
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, {"objects": [self._object(entry) for entry in json.loads(body)["objects"]]}, {}
        if file := _FILE.fullmatch(path):
            content = self.repositories[file.group(1)].files[file.group(2)]
            return 200, content, {"X-Repo-Commit": "0" * 40, "ETag": '"0"'}
        match = _REPOSITORY.fullmatch(path)
        assert match is not None, path
        repository = self.repositories.get(match.group(2))
        if repository is None:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        return self._of_repository(match.group(2), repository, match.group(3) or "info", body, path)

    def _of_repository(
        self, name: str, repository: HubRepository, action: str, body: bytes, path: str
    ) -> tuple[int, Any, dict[str, str]]:
        if action == "tree":
            return 200, [_entry(file, content) for file, content in sorted(repository.files.items())], {}
        if action == "preupload":
            files = json.loads(body)["files"]
            return 200, {"files": [_upload_mode(file["path"]) for file in files]}, {}
        if action == "commit":
            return self._commit(repository, body)
        if action == "tag":
            tag = json.loads(body)["tag"]
            if tag in repository.tags:
                return 409, {"error": "Tag reference exists already"}, {}
            repository.tags[tag] = path.rpartition("/")[2]
            return 200, {}, {}
        return 200, {"id": name, "private": repository.private, "sha": "0" * 40, "tags": [], "downloads": 0}, {}

    def _upload(self, oid: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        if self.broken_uploads:
            self.broken_uploads -= 1
            return 400, {"error": "no"}, {}
        assert hashlib.sha256(body).hexdigest() == oid
        self.objects[oid] = body
        self.uploads.append(oid)
        return 200, {}, {}

    def _object(self, entry: dict[str, Any]) -> dict[str, Any]:
        if entry["oid"] in self.objects:
            return dict(entry)
        return {**entry, "actions": {"upload": {"href": f"{self.url}/upload/{entry['oid']}"}}}

    def _commit(self, repository: HubRepository, body: bytes) -> tuple[int, Any, dict[str, str]]:
        header, *operations = map(json.loads, body.splitlines())
        paths = []
        for operation in operations:
            value = operation["value"]
            paths.append(value["path"])
            if operation["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                repository.files[value["path"]] = self.objects[value["oid"]]
            else:
                del repository.files[value["path"]]
        repository.commits.append((header["value"]["summary"], header["value"]["description"], paths))
        oid = f"{len(repository.commits):040x}"
        return 200, {"commitUrl": f"{self.url}/lab/fake-pairs/commit/{oid}", "commitOid": oid}, {}


def _entry(path: str, content: bytes) -> dict[str, Any]:
    git_hash = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_hash}
    if path.endswith(_LFS):
        entry |= {"lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}}
    return entry


def _upload_mode(path: str) -> dict[str, Any]:
    return {"path": path, "uploadMode": "lfs" if path.endswith(_LFS) else "regular", "shouldIgnore": False}


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """The hub in a thread of this process, for as long as the block runs."""
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "Authorization" in self.headers:
                state.tokens.add(self.headers["Authorization"])
            status, reply, headers = state.reply(self.command, self.path, body)
            raw = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(raw)), "Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(raw)

        do_GET = do_POST = do_PUT = do_HEAD = _answer

        def log_message(self, *_: Any) -> None:
            pass

    with http_server(Handler) as port:
        state.url = f"http://127.0.0.1:{port}"
        yield state


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stub as the hub of this process, with a token; files go by LFS, for Xet's servers have no stand-in."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with running_hub() as state:
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state

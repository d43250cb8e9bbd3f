"""An S3 server (moto) in a thread of the test process, on 127.0.0.1; each test gets an empty bucket of its own.

One server serves all tests of a process and ends with it: stopping it would cost half a second a test. `real_s3` starts
Ceph's gateway where it is installed, for what a mock cannot show.
"""

import functools
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.serving.checks import free_port

_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "kept-out-of-every-log",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
}


@functools.cache
def _endpoint() -> str:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


_REAL_SERVER = Path(__file__).parents[3] / "shared" / "tools" / "s3-server.sh"
needs_real_s3 = pytest.mark.skipif(
    not _REAL_SERVER.is_file() or shutil.which("radosgw") is None,
    reason="there is no radosgw (Ceph's S3 gateway), or no ../shared/tools/s3-server.sh to start it",
)


@contextmanager
def real_s3(folder: Path) -> Iterator[dict[str, str]]:
    """Run a real S3 server whose files are in `folder`; yields the environment in which it is reached."""
    port = free_port()
    command = ["bash", str(_REAL_SERVER)]
    started = subprocess.run(
        [*command, "start", str(folder), str(port)], stdout=subprocess.PIPE, text=True, check=True, timeout=120
    )
    try:
        yield dict(line.removeprefix("export ").split("=", 1) for line in started.stdout.splitlines())
    finally:
        subprocess.run([*command, "stop", str(folder)], check=True, timeout=60)


@contextmanager
def s3_bucket(monkeypatch: pytest.MonkeyPatch, server: dict[str, str] | None = None) -> Iterator[str]:
    """Point AWS_ENDPOINT_URL and the keys at the server, for child processes too, and yield s3://BUCKET.

    `server` is the environment of another server than moto.
    """
    import boto3

    with monkeypatch.context() as patch:
        for name, value in {**_ENVIRONMENT, **(server or {"AWS_ENDPOINT_URL": _endpoint()})}.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        bucket = f"mill-{uuid.uuid4().hex[:12]}"
        client = boto3.session.Session().client("s3")  # the default one keeps the keys of the first server
        client.create_bucket(Bucket=bucket)
        client.close()
        yield f"s3://{bucket}"


@contextmanager
def store_url(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty store: `kind` is "file" or "s3"."""
    if kind == "file":
        yield str(folder / "mill")
        return
    with s3_bucket(monkeypatch) as bucket:
        yield f"{bucket}/some/mill"

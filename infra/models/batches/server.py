"""OpenAI's protocol of files and batches at one endpoint, by the openai package's client.

What goes wrong is raised as a `BatchFault`, which says whether a person must act, the server is busy, or it may pass.
Uploads, looks and downloads are repeated by that client; making a batch is not, since a lost response may hide a batch
that was made.
"""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from infra.models.refusals.rules import classify_refusal
from infra.models.sending.transport import Refused, TemporaryFailure, is_here

if TYPE_CHECKING:
    from openai.types import Batch

FAILED = "failed"
ENDED = frozenset({"completed", FAILED, "expired", "cancelled"})
_IN_MEMORY = 64 << 20  # bytes of a file; more go to the disk
_LISTED = 2000  # batches of the server's list that are looked through, the newest
_CREATE_S = 30.0  # a batch is made in the background, so the response comes at once
_BUSY = (409, 429)
_BELOW = ("httpx", "httpx2", "httpcore", "httpcore2")  # packages whose errors come through in a download


class BatchFault(Exception):
    """The server has not done what a step of the protocol needs."""

    def __init__(self, failure: Refused | TemporaryFailure, status: int | None) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.status = status  # of the response; None: there was none

    @property
    def is_open(self) -> bool:
        """Whether what was wanted may have been done all the same."""
        return self.status is None or self.status >= 500 or self.status == 408


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch as the server shows it."""

    batch: str  # its id
    status: str
    done: int  # requests that were answered or refused
    completed: int  # answered
    output_file: str | None
    error_file: str | None
    errors: tuple[Mapping[str, Any], ...]  # why it failed: code, message


class BatchServer:
    """One endpoint. Made and used in one event loop; methods raise BatchFault."""

    def __init__(
        self, url: str, api_key: str | None, headers: Mapping[str, str], timeout_s: float, attempts: int
    ) -> None:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        self._client = AsyncOpenAI(
            base_url=url,
            api_key=api_key or "none",
            default_headers=dict(headers),
            timeout=timeout_s,
            max_retries=max(0, attempts - 1),
            http_client=DefaultAsyncHttpxClient(trust_env=not is_here(url)),  # this machine is behind no proxy
        )

    async def upload(self, file: BinaryIO, name: str) -> str:
        """Upload a file of request lines; returns its id."""
        from openai import OpenAIError

        try:
            uploaded = await self._client.files.create(file=(name, file, "application/jsonl"), purpose="batch")
        except OpenAIError as error:
            raise _fault(error) from error
        return uploaded.id

    async def create(self, input_file: str, route: str, window: str, name: str) -> BatchView:
        """Make a batch, once; `name` is written into its metadata."""
        from openai import OpenAIError

        try:
            batch = await self._client.with_options(max_retries=0, timeout=_CREATE_S).batches.create(
                input_file_id=input_file,
                endpoint=cast(Any, route),
                completion_window=cast(Any, window),
                metadata={"longmill": name},
            )
        except OpenAIError as error:
            raise _fault(error) from error
        return _view(batch)

    async def find(self, input_file: str, name: str) -> BatchView | None:
        """The batch of an input file, by the server's list; None when it was never made."""
        from openai import OpenAIError

        seen = 0
        try:
            async for batch in self._client.batches.list(limit=100):
                if batch.input_file_id == input_file or (batch.metadata or {}).get("longmill") == name:
                    return _view(batch)
                seen += 1
                if seen == _LISTED:
                    break
        except OpenAIError as error:
            raise _fault(error) from error
        return None

    async def look(self, batch_id: str) -> BatchView:
        """A batch as it is now."""
        from openai import OpenAIError

        try:
            return _view(await self._client.batches.retrieve(batch_id))
        except OpenAIError as error:
            raise _fault(error) from error

    @contextlib.asynccontextmanager
    async def download(self, file_id: str) -> AsyncIterator[BinaryIO]:
        """The content of a file, until the block ends."""
        from openai import OpenAIError

        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
            try:
                async with self._client.files.with_streaming_response.content(file_id) as response:
                    async for part in response.iter_bytes():
                        file.write(part)
            except OpenAIError as error:
                raise _fault(error) from error
            except Exception as error:
                if type(error).__module__.partition(".")[0] not in _BELOW:
                    raise
                raise BatchFault(TemporaryFailure("connection", f"{type(error).__name__}: {error}"), None) from error
            file.seek(0)
            yield cast(BinaryIO, file)

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()


def _view(batch: "Batch") -> BatchView:
    """What is used of a batch; servers that imitate the protocol leave fields out."""
    if not getattr(batch, "id", None):
        raise BatchFault(TemporaryFailure("bad_reply", f"what came is no batch: {str(batch)[:200]}"), None)
    counts = batch.request_counts
    completed, failed = (counts.completed or 0, counts.failed or 0) if counts else (0, 0)
    errors = []
    for error in (batch.errors.data or []) if batch.errors else []:
        errors.append({"code": error.code, "message": error.message, "param": error.param})
    return BatchView(
        batch.id,
        batch.status,
        completed + failed,
        completed,
        batch.output_file_id or None,
        batch.error_file_id or None,
        tuple(errors),
    )


def _fault(error: Exception) -> BatchFault:
    """An error of the openai package as a fault, by the same classes as a live call's."""
    from openai import APIStatusError, APITimeoutError

    if isinstance(error, APIStatusError):
        status, body = error.status_code, error.response.text
        refused = Refused(status, body, classify_refusal(status, body))
        if refused.refusal.subject in ("passing", "prompt"):
            return BatchFault(TemporaryFailure("busy", refused.detail, busy=status in _BUSY), status)
        return BatchFault(refused, status)
    reason = "timeout" if isinstance(error, APITimeoutError) else "connection"
    cause = error.__cause__ or error
    return BatchFault(TemporaryFailure(reason, f"{type(cause).__name__}: {cause}"), None)

"""What a model on this machine has computed, in the ledger, as an endpoint's replies are: nothing is computed twice."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.canonical import canonical_json
from infra.ledger import Entry
from infra.models.protocol import LedgerLike


def record_computed(
    ledger: LedgerLike, kind: str, model: str, revision: str, replies: Mapping[str, Any], seconds: float
) -> None:
    """Write values by key, JSON-ready, computed in so many seconds together; returns when they are durable."""
    entries = []
    for key, reply in replies.items():
        entry = Entry(
            key=key,
            kind=kind,
            model=model,
            revision=revision,
            status=200,
            reply=canonical_json(reply).decode(),
            prompt_tokens=0,
            completion_tokens=0,
            seconds=seconds / len(replies),
            created=int(time.time()),
        )
        entries.append(entry)

    async def record_all() -> None:
        await asyncio.gather(*map(ledger.record, entries))

    asyncio.run(record_all())


def model_files(place: str) -> list[Any]:
    """Name, bytes and time of each file of a model's folder, since another model may lie there one day; else []."""
    folder = Path(place)
    files = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file():
            stat = path.stat()
            files.append([path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns])
    return files

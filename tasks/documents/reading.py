"""What the files of a source hold, in their order: some read here, some by processes beside this one (worker.py).

Formats whose libraries a damaged file may bring down, or keep busy for ever, are read by those processes: one that ends
costs one document. Rows are streamed here, so memory holds a row, or a few whole files.
"""

import contextlib
from collections.abc import Generator, Iterator

from infra.errors import UnreadableError
from infra.recipe import Documents
from infra.running.line_processes import LineProcesses, ProcessEndedError, json_line
from tasks.documents.document import DocumentFormat, Parsed, SourceFile
from tasks.documents.formats import format_of
from tasks.documents.sources import source_files, source_rows

TIMEOUT_S = 600.0  # of one file

Parts = list[Parsed | UnreadableError]
_ToRead = tuple[SourceFile, DocumentFormat | None]


def read_sources(settings: Documents, processes: int) -> Generator[tuple[str, Parsed | UnreadableError], None, None]:
    """(source, what was read, or why it could not be) for every document of all files."""
    files = source_files(settings)
    if files is None:
        for part in source_rows(settings):
            yield f"#{part.row}" if isinstance(part, Parsed) else settings.source, part
        return
    reading = _Reading(settings, processes)
    with contextlib.closing(reading.processes):
        jobs = ((file, (file, format_of(file.name))) for file in files)
        with contextlib.closing(reading.processes.in_order(jobs, reading.read_apart)) as results:
            for file, parts in results:
                for part in reading.read_here(file) if parts is None else parts:
                    row = part.row if isinstance(part, Parsed) else 0
                    yield f"{file.name}#{row}" if row else file.name, part


class _Reading:
    """The processes that read, and what they are asked."""

    def __init__(self, settings: Documents, processes: int) -> None:
        self._settings = settings
        self.processes = LineProcesses("tasks.documents.worker", json_line(settings.model_dump(mode="json")), processes)

    def read_here(self, file: SourceFile) -> Iterator[Parsed | UnreadableError]:
        """What a file holds, read in this process; a fault comes last."""
        form = format_of(file.name)
        if form is None:
            yield UnreadableError("format", "no format has such a name: `longmill documents` lists them")
            return
        try:
            yield from form.read(file, self._settings)
        except UnreadableError as error:
            yield error

    def read_apart(self, job: _ToRead) -> Parts | None:
        """What a file holds, read by another process; None for one that is to be read here."""
        file, form = job
        if form is None or not form.apart:
            return None
        try:
            reply = self.processes.ask_json({"url": file.url, "name": file.name, "format": form.name}, TIMEOUT_S)
        except ProcessEndedError as error:
            if error.timed_out:
                return [UnreadableError("too_slow", f"was not read within {TIMEOUT_S:.0f} s")]
            return [UnreadableError("unreadable", f"the process that read it ended (status {error.status})")]
        if "reason" in reply:
            return [UnreadableError(reply["reason"], reply["message"])]
        return [Parsed.from_json(part) for part in reply["parsed"]]

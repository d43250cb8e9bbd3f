"""A process that reads documents of formats in which a damaged file may end a process, or take all memory.

One line of settings comes in, then a line for each file; for each goes out {"parsed": [...]} or {"reason", "message"}.
It ends when its input ends.
"""

import contextlib
import resource
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from infra.errors import UnreadableError
from infra.recipe import Documents
from infra.running.line_processes import answer_lines
from tasks.documents.document import SourceFile
from tasks.documents.formats import document_formats

MEMORY = 6 << 30  # bytes of address space


def reader(first_line: Any) -> Callable[[Any], dict[str, Any]]:
    """What reads a file."""
    with contextlib.suppress(ValueError, OSError):  # a machine that gives less already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    settings = Documents.model_validate(first_line)

    def read(request: Any) -> dict[str, Any]:
        form = document_formats()[request["format"]]
        try:
            parsed = []
            for part in form.read(SourceFile(request["url"], request["name"]), settings):
                if isinstance(part, UnreadableError):
                    raise part
                parsed.append(asdict(part))
            return {"parsed": parsed}
        except UnreadableError as error:
            return {"reason": error.reason, "message": str(error)}
        except MemoryError:
            return {"reason": "too_large", "message": "does not fit into the memory that one document may take"}

    return read


if __name__ == "__main__":
    answer_lines(reader)

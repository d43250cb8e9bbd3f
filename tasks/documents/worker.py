"""A process that reads documents of formats in which a damaged file may end a process, or take all memory.

One line of settings comes in, then a line for each file; for each goes out {"parsed": [...]} or {"reason", "message"}.
It ends when its input ends.
"""

import contextlib
import json
import os
import resource
import sys
from dataclasses import asdict
from typing import Any, BinaryIO

from infra.errors import LongmillError, UnreadableError
from infra.recipe import Documents
from infra.running.line_processes import json_line
from tasks.documents.document import SourceFile
from tasks.documents.formats import document_formats

MEMORY = 6 << 30  # bytes of address space


def main() -> None:
    """Answer lines until there are no more."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the replies
    with contextlib.suppress(ValueError, OSError):  # a machine that gives less already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    answer(sys.stdin.buffer, replies)


def answer(files: BinaryIO, replies: BinaryIO) -> None:
    """A reply for each file."""
    settings = Documents.model_validate(json.loads(files.readline()))
    for line in files:
        request = json.loads(line)
        form = document_formats()[request["format"]]
        reply: dict[str, Any]
        try:
            parsed = []
            for part in form.read(SourceFile(request["url"], request["name"]), settings):
                if isinstance(part, UnreadableError):
                    raise part
                parsed.append(asdict(part))
            reply = {"parsed": parsed}
        except UnreadableError as error:
            reply = {"reason": error.reason, "message": str(error)}
        except MemoryError:
            reply = {"reason": "too_large", "message": "does not fit into the memory that one document may take"}
        except LongmillError as error:
            reply = {"error": type(error).__name__, "message": str(error)}
        replies.write(json_line(reply))
        replies.flush()


if __name__ == "__main__":
    main()

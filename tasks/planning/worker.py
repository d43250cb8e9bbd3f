"""A process that builds contexts: one line of settings comes in, then a line for each batch; a line for each goes out.

It is started by workers.py and ends when its input ends, so also when the process that started it is killed. It reads
no question and writes no file, and does not import torch.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from infra.errors import LongmillError
from infra.models.tokens import CountingTokenizer
from infra.recipe import parse_recipe
from infra.running.line_processes import json_line
from tasks.contexts import build_batch
from tasks.planning.distractors import map_pool
from tasks.planning.limits import prompt_limits
from tasks.planning.wire import outcomes_to_json, questions_from_json


def main() -> None:
    """Answer lines until there are no more."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the replies
    answer(sys.stdin.buffer, replies)


def answer(batches: BinaryIO, replies: BinaryIO) -> None:
    """A reply for each batch: {"outcomes": [...]}, or {"error": class, "message": text}."""
    settings = json.loads(batches.readline())
    recipe = parse_recipe(settings["recipe"])
    tokenizer = CountingTokenizer(json.loads(Path(settings["tokenizer"]).read_bytes()))
    pool = map_pool(Path(settings["pool"]))
    limits = prompt_limits(recipe, tokenizer)
    for batch in batches:
        reply: dict[str, Any]
        try:
            outcomes = build_batch(questions_from_json(json.loads(batch)), recipe, tokenizer, pool, limits)
            reply = {"outcomes": outcomes_to_json(outcomes)}
        except LongmillError as error:
            reply = {"error": type(error).__name__, "message": str(error)}
        replies.write(json_line(reply))
        replies.flush()


if __name__ == "__main__":
    main()

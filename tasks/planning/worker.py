"""A process that builds contexts: one line of settings comes in, then a line for each batch; a line for each goes out.

It is started by workers.py and ends when its input ends, so also when the process that started it is killed. It reads
no question and writes no file, and does not import torch.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.models.tokens import CountingTokenizer
from infra.recipe import parse_recipe
from infra.running.line_processes import answer_lines
from tasks.contexts import build_batch
from tasks.planning.distractors import map_pool
from tasks.planning.limits import prompt_limits
from tasks.planning.wire import outcomes_to_json, questions_from_json


def builder(settings: Any) -> Callable[[Any], dict[str, Any]]:
    """What builds the contexts of a batch: {"outcomes": [...]}."""
    recipe = parse_recipe(settings["recipe"])
    tokenizer = CountingTokenizer(json.loads(Path(settings["tokenizer"]).read_bytes()))
    pool = map_pool(Path(settings["pool"]))
    limits = prompt_limits(recipe, tokenizer)

    def build(batch: Any) -> dict[str, Any]:
        return {"outcomes": outcomes_to_json(build_batch(questions_from_json(batch), recipe, tokenizer, pool, limits))}

    return build


if __name__ == "__main__":
    answer_lines(builder)

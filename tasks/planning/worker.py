"""A process that plans: one line of settings comes in, then a line for each job; a line for each goes out.

It is started by workers.py and ends when its input ends, so also when the process that started it is killed. It reads
its ranges of the source by itself, writes no file, and does not import torch. The pool is mapped, not read.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from infra.models.tokens import CountingTokenizer
from infra.recipe import Questions, parse_recipe
from infra.running.line_processes import answer_lines
from tasks.contexts import build_batch, pool_sizes
from tasks.planning.built_range import build_range
from tasks.planning.distractors import Pool, map_pool
from tasks.planning.limits import prompt_limits
from tasks.planning.wire import built_range_to_json, outcomes_to_json, questions_from_json
from tasks.questions.ranges import RowRange


def planner(settings: Any) -> Callable[[Any], dict[str, Any]]:
    """What does a job: {"sizes": [start, stop]} of the pool's documents, {"range": ...} or {"questions": [...]}."""
    recipe = parse_recipe(settings["recipe"])
    source = Questions.model_validate(settings["questions"])
    tokenizer = CountingTokenizer(json.loads(Path(settings["tokenizer"]).read_bytes()))
    limits = prompt_limits(recipe, tokenizer)

    @cache
    def documents() -> Pool:
        return map_pool(Path(settings["documents"]))

    @cache
    def pool() -> Pool:
        return replace(documents(), tokens=json.loads(Path(settings["sizes"]).read_bytes()))

    def work(job: Any) -> dict[str, Any]:
        if "sizes" in job:
            return {"sizes": pool_sizes(documents().documents[slice(*job["sizes"])], recipe, tokenizer)}
        if "range" in job:
            rows = RowRange(**job["range"])
            return built_range_to_json(build_range(rows, source, recipe, tokenizer, pool(), limits))
        questions = questions_from_json(job["questions"])
        return {"outcomes": outcomes_to_json(build_batch(questions, recipe, tokenizer, pool(), limits))}

    return work


if __name__ == "__main__":
    answer_lines(planner)

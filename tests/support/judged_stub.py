"""A small judged recipe over stub servers: three facts an answer, all supported; ratings by the length of an answer."""

import json
import re
from pathlib import Path
from typing import Any

from flows.bench.common import stub_recipe
from infra.recipe import Recipe
from tests.support.judge_replies import JudgeServer, prompt_in
from tests.support.stub_server import StubServer

DIMENSIONS = ("helpfulness", "logicality", "completeness", "faithfulness")


def judge_reply(body: dict[str, Any]) -> str:
    """Terse replies: three facts an answer, everything supported, ratings by the length of the prompt."""
    prompt = prompt_in(body)
    step = step_of(prompt)
    if step == "sentence-facts":
        words = inside(prompt, "answer").split()[:3]
        return "\n".join(f"<statement>The text says {word}.</statement>" for word in words)
    if step == "notes":
        return "Some notes."
    if step == "support":
        return "[[Fully supported]]"
    return f"[[{len(inside(prompt, 'answer')) % 11}]]"


def step_of(prompt: str) -> str:
    named = re.match(r"Task: (\S+)\n", prompt)
    return named.group(1) if named else "probe"


def inside(prompt: str, tag: str) -> str:
    return str(re.findall(rf"<{tag}>\n(.*?)\n</{tag}>", prompt, re.DOTALL)[-1])


def judged_stub_recipe(
    folder: Path, policy: StubServer, judge: JudgeServer, questions: int = 6, **execution: Any
) -> Recipe:
    """The recipe, with its questions written into `folder`."""
    rows = []
    for number in range(questions):
        text = " ".join(f"word{number}x{place}" for place in range(60))
        rows.append(json.dumps({"id": f"q{number}", "question": f"What is {number}?", "context": text}))
    (folder / "questions.jsonl").write_text("\n".join(rows) + "\n")
    sections: dict[str, Any] = {
        "judge": {
            "name": "stub",
            "tokenizer": "microworld",
            "endpoints": [judge.url],
            "prompts": "terse",
            "structured": "never",
        },
        "embedding": {"model": "stub", "endpoint": policy.url},
        "sampling": {"samples": 3},
        "scoring": {"scorers": [{"scorer": name} for name in DIMENSIONS]},
        "pairing": {"rule": "best_vs_worst", "min_scored": 2},
        "execution": {"shard_size": 3, "attempts": 1, "task_retries": 0, "batch_calls": 32, **execution},
    }
    return stub_recipe(folder, policy.url, **sections)

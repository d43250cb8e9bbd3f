"""lm-eval, the field's tool for short tasks, run against the endpoint of a model: `longmill evaluate --lm-eval TASKS`.

It is a program of its own (`pip install "longmill[lm-eval]"`, or in an environment of its own, with `lm_eval` on the
PATH), so that its packages do not meet ours. Its tasks, few-shot examples and measures are its own; it reads its
datasets from the hub. Calls that it makes are not in the ledger.

`completions` is what tasks with log-likelihoods need (arc_challenge, mmlu): the server must have /completions with
`echo` and `logprobs`, as vLLM has, and the tokenizer must be at hand. `chat` sends messages, for tasks that generate.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.errors import EvaluationError, PrerequisiteError
from infra.models.tokens import resolve_model
from infra.recipe import Model

COMMAND = "lm_eval"
_LAST_LINES = 5  # of its output, in an error
_CONCURRENT = 16


def find_lm_eval() -> str:
    """The path of lm-eval's command, beside this Python or on the PATH. Raises PrerequisiteError when it is missing."""
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    command = shutil.which(COMMAND, path=places)
    if command is None:
        raise PrerequisiteError(
            "--lm-eval: there is no command lm_eval; install it: pip install 'lm-eval[api]', here or in an environment "
            "of its own that is on the PATH"
        )
    return command


def run_lm_eval(model: Model, tasks: str, chat: bool, folder: Path, further: Sequence[str] = ()) -> dict[str, Any]:
    """Run tasks ("gsm8k,arc_challenge") against a model's first endpoint; `further` are arguments of lm-eval.

    Returns {task: {metric: value}}, as lm-eval names them. Raises EvaluationError with the end of its output.
    """
    command = [find_lm_eval(), *lm_eval_arguments(model, tasks, chat, folder), *further]
    environment = os.environ | {"OPENAI_API_KEY": os.environ.get(model.api_key_env) or "none"}
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.rglob("results_*.json"))
    with (folder / "lm-eval.log").open("w", encoding="utf-8") as log:
        ended = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    written = sorted(set(folder.rglob("results_*.json")) - before)
    if ended.returncode or not written:
        lines = (folder / "lm-eval.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise EvaluationError(
            f"lm-eval ended with status {ended.returncode} and {'no' if not written else 'some'} results; "
            f"its log is {folder / 'lm-eval.log'} and ends with: {' / '.join(lines[-_LAST_LINES:])}"
        )
    return results_in(json.loads(written[-1].read_text(encoding="utf-8")))


def lm_eval_arguments(model: Model, tasks: str, chat: bool, folder: Path) -> list[str]:
    """The arguments of lm-eval's command for a model's endpoint."""
    url = model.endpoints[0].rstrip("/")
    settings = {"model": model.name, "num_concurrent": _CONCURRENT, "max_length": model.context_window}
    if chat:
        kind, settings["base_url"] = "local-chat-completions", f"{url}/chat/completions"
        settings["tokenized_requests"] = False
    else:
        kind, settings["base_url"] = "local-completions", f"{url}/completions"
        settings["tokenizer"] = resolve_model(model.tokenizer)
    pairs = [f"{name}={value}" for name, value in settings.items()]
    arguments = ["--model", kind, "--model_args", ",".join(pairs), "--tasks", tasks, "--output_path", str(folder)]
    return [*arguments, "--apply_chat_template"] if chat else arguments


def results_in(report: Mapping[str, Any]) -> dict[str, Any]:
    """{task: {metric: value}} of lm-eval's results file; its "metric,filter" stays as it is."""
    results: dict[str, Any] = {}
    for task, figures in report["results"].items():
        results[task] = {name: value for name, value in figures.items() if isinstance(value, int | float)}
    return results

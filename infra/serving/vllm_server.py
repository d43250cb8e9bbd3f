"""Starts vLLM's OpenAI-compatible server; run by the Python that has vLLM: `python vllm_server.py MODEL OPTIONS`.

`vllm serve` is the documented way. Its command line asks for the metadata of a package `vllm`, which some builds (for
CPUs) lack; there the module behind it is called, and in versions before 0.31 the module that later ones deprecate. It
must import nothing of Longmill, and stay importable: vLLM's own processes import the main module again.
"""

import importlib.metadata
import importlib.util
import runpy
import sys
from pathlib import Path

LAUNCHER = "vllm.entrypoints.launchers.api_server.entry"
EARLIER = "vllm.entrypoints.openai.api_server"


def main() -> None:
    """Run the server with this process's arguments, until it ends."""
    model, *options = sys.argv[1:]
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        sys.argv = ["vllm", "--model", model, *options]
        runpy.run_module(_module(), run_name="__main__")
    else:
        sys.argv = ["vllm", "serve", model, *options]
        runpy.run_module("vllm.entrypoints.cli.main", run_name="__main__")


def _module() -> str:
    """The module that serves, of the vLLM that is installed."""
    try:
        return LAUNCHER if importlib.util.find_spec(LAUNCHER) else EARLIER
    except ModuleNotFoundError:
        return EARLIER


if __name__ == "__main__":
    folder = str(Path(__file__).resolve().parent)
    sys.path[:] = [path for path in sys.path if path != folder]  # the modules beside this one have common names
    main()

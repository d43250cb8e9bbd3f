"""What the machine must have, checked before work starts. Every message names the remedy.

Uses the standard library alone: `make` runs this file before there is an environment. `longmill doctor` uses it too.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

FACTORY_GB = 6.0  # disk that .venv takes, and what is needed to install it
SERVING_GB = 8.0  # the same of .venv-serving
RUN_GB = 1.0


def missing_prerequisites(*, disk_gb: float, serving: bool, folder: Path | None = None) -> Iterator[str]:
    """One sentence for every thing that is missing, with its remedy.

    `serving`: vLLM will run here. `folder`: where `disk_gb` must be free; it need not exist yet.
    """
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        yield (
            f"Python {sys.version_info.major}.{sys.version_info.minor} is too old or too new: Longmill runs on "
            "3.11 and 3.12; give one with `make PYTHON=python3.11`"
        )
    if sys.platform != "linux":
        yield f"{sys.platform} is not supported: run on Linux, or in a Linux container"
    elif serving and not _has_vector_units():
        yield (
            "the processor has neither AVX-512 nor AVX2, which vLLM needs on a CPU: use another machine, or give "
            "policy.endpoints to reach a model elsewhere"
        )
    place = folder or Path.cwd()
    while not place.exists():
        place = place.parent
    free_gb = shutil.disk_usage(place).free / 1e9
    if free_gb < disk_gb:
        yield f"{place}: {free_gb:.1f} GB of disk are free, {disk_gb:.0f} GB are needed: free some, or run elsewhere"


def _has_vector_units() -> bool:
    try:
        cpu_info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return True  # cannot be found out, which is no reason to stop
    return "avx2" in cpu_info or "avx512f" in cpu_info or "asimd" in cpu_info


if __name__ == "__main__":
    for_serving = "--serving" in sys.argv
    messages = list(missing_prerequisites(disk_gb=SERVING_GB if for_serving else FACTORY_GB, serving=for_serving))
    for message in messages:
        print(f"error: {message}", file=sys.stderr)
    sys.exit(6 if messages else 0)  # as PrerequisiteError, which needs an environment to be imported

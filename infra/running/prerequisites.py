"""What the machine must have, checked before work starts; each lack is named with its remedy.

Uses the standard library alone, so that `make` can run it before any environment exists, and `longmill
doctor` can run it in one.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

FACTORY_GB = 6.0  # what .venv takes, and room to install it
SERVING_GB = 8.0
RUN_GB = 1.0


def lacks(*, disk_gb: float, serving: bool, folder: Path | None = None) -> Iterator[str]:
    """One sentence for each thing that is missing, with its remedy."""
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
    free = shutil.disk_usage(place).free / 1e9
    if free < disk_gb:
        yield f"{place}: {free:.1f} GB of disk are free, {disk_gb:.0f} GB are needed: free some, or run elsewhere"


def _has_vector_units() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return True  # unknown is no reason to refuse
    return "avx2" in flags or "avx512f" in flags or "asimd" in flags


if __name__ == "__main__":
    wants_serving = "--serving" in sys.argv
    found = list(lacks(disk_gb=SERVING_GB if wants_serving else FACTORY_GB, serving=wants_serving))
    for lack in found:
        print(f"error: {lack}", file=sys.stderr)
    sys.exit(3 if found else 0)

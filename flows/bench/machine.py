"""The machine that figures are measured on, in words, to stand beside them; and where its code is."""

import os
import platform
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]  # the folder of the package `flows`: a checkout, or where it is installed


def machine() -> dict[str, Any]:
    """{"processor", "cores", "python"}: the processor's model where the system names it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    processor = platform.machine()
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return {"processor": processor, "cores": os.cpu_count(), "python": platform.python_version()}

"""The machine that figures are measured on, in words, to stand beside them."""

import os
import platform
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """{"processor", "cores", "python"}: what the machine says of its processor, or its kind where it says nothing."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }

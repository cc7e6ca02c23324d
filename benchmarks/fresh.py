"""Run a piece of Python in an interpreter of its own, and read the JSON that it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

# The peak of this interpreter alone: ru_maxrss of a child starts at the peak of the process that started it (Linux).
PEAK = """
def peak_mb():
    import resource, sys
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
"""


def fresh(code: str) -> Any:
    """What the last line of output says, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])

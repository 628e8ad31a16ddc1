"""A check of the address space limit (``ulimit -v``) before torch is imported."""

from __future__ import annotations

import subprocess
import sys

from runner.errors import RequestError

_TRIAL = (
    "import numpy, torch, safetensors.torch; model = torch.nn.Linear(512, 512);"
    " model(torch.ones(2**17, 512)).sum().backward()"
)
"""What every run does, and 600 MB of numbers."""


def require_room_for_torch() -> None:
    """See in a process of its own whether torch can work here at all; at once where nothing limits its address space.

    Where it cannot, it fails in ways that no program can answer: OpenBLAS and the loader of libraries abort.

    Raises:
        RequestError: it cannot.
    """
    try:
        import resource
    except ImportError:  # Windows, which keeps no such limit
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return
    trial = subprocess.run(
        [sys.executable, "-c", _TRIAL], capture_output=True, text=True, errors="replace", check=False
    )
    if trial.returncode != 0:
        said = (trial.stderr.strip().splitlines() or [f"exit code {trial.returncode}"])[-1]
        raise RequestError(
            "ulimit",
            f"-v {limit // 1024}, in which torch cannot work ({said})",
            "-v unlimited, or several times as much: libraries reserve more than they use",
        )

"""Memory that is freed on a CPU stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS_OF_TEN_BLOCKS = """
import resource
{before}
def fill():
    b'x' * (48 * 2**20)
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

KEEP = "from runner.data.kept_memory import keep_freed_memory; keep_freed_memory()"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_a_block_that_was_freed_is_used_again_without_asking_the_kernel() -> None:
    def faults(before: str) -> int:
        script = FAULTS_OF_TEN_BLOCKS.format(before=before)
        return int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)

    pages = 10 * 48 * 2**20 // 4096
    assert faults(KEEP) < pages // 100
    assert faults("") > pages // 2, "the allocator keeps memory by itself: nothing is shown"

"""The tests on numbers once more, with the kernels of other processors: ``python -m tests.other_kernels [FOLDER ...]``.

Which kernels compute is decided when torch, oneDNN and MKL are loaded, so that each environment is a process of its
own.  ``make test`` runs two that have each value once; ``--all`` crosses all of them.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = (
    "data/test_augment.py",
    "data/test_feed.py",
    "golden/test_golden_losses.py::test_losses_are_those_that_are_kept",
    "inference/test_in_place_activations.py",
    "inference/test_predictor.py",
    "inference/test_scores.py",
    "internals/test_optimizer_step.py",
    "optim/test_optimizer.py",
    "optim/test_schedules.py",
    "privacy/test_example_rng.py",
    "privacy/test_ghost.py",
    "privacy/test_layers_by_example.py",
    "internals/test_functional_grad.py",
    "privacy/test_noise.py",
    "privacy/test_per_example.py",
    "privacy/test_poisson_sampler.py",
    "privacy/test_private_rule.py",
    "training/test_ema.py",
    "training/test_equivalence.py",
    "training/test_cpu_float16.py",
    "internals/test_backward.py",
    "tasks/test_losses.py",
    "training/test_one_noise.py",
    "training/test_out_of_memory.py",
    "training/test_eval_chunks.py",
    "training/test_precision.py",
    "training/test_stochastic_models.py",
)
"""Tests whose outcome kernels could change: golden losses, bits, equivalence, tolerances."""
SLOW = (
    "inference/test_exporting.py",
    "inference/test_quantize.py",
    "models/test_oriented_gradients.py",
    "models/test_gradient_checkpointing.py",
    "models/test_scattering.py",
    "models/test_weights.py",
    "training/test_compiled_model.py",
    "training/test_resume.py",
)
"""More of them, which take longer than they tell: with ``--all`` alone."""
LEFT_OUT = ("privacy/test_per_example.py::test_in_place_residual_sums_work",)
"""Large networks among ``FILES``, whose small ones tell the same."""
VECTORS = ("avx2", "default")
"""Of torch's own kernels (``ATEN_CPU_CAPABILITY``)."""
INSTRUCTIONS = ("AVX2", "AVX512_CORE")
"""Of oneDNN's (``ONEDNN_MAX_CPU_ISA``)."""
THREADS = (1, 2)


def environment(vectors, instructions, threads):
    """Variables under which these kernels compute."""
    chosen = {"ATEN_CPU_CAPABILITY": vectors, "ONEDNN_MAX_CPU_ISA": instructions, "OMP_NUM_THREADS": str(threads)}
    # torch's compiler does not tell them apart: code from its cache that was made for wider vectors ends the process
    chosen["TORCHINDUCTOR_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"torchinductor-{vectors}-{instructions}")
    return chosen | ({"MKL_ENABLE_INSTRUCTIONS": "AVX2"} if instructions == "AVX2" else {})


def asked(folders, files=FILES):
    """Those of ``files`` below one of ``folders``."""
    below = [str((ROOT / folder).resolve()) for folder in folders]
    tests = [str(ROOT / "tests" / file) for file in files]
    return [test for test in tests if any(test.startswith(folder) for folder in below)]


def begin(tests, variables):
    """One pass of ``tests``."""
    less = [f"--deselect=tests/{test}" for test in LEFT_OUT]
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *less, *tests]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def main():
    """Two environments at a time; ends with 1 if a test fails in one of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="*", default=["tests"])
    parser.add_argument("--all", action="store_true", help="every environment")
    options = parser.parse_args()
    tests = asked(options.folders, FILES + SLOW if options.all else FILES)
    every = list(itertools.product(VECTORS, INSTRUCTIONS, THREADS))
    chosen = every if options.all else [("avx2", "AVX2", 1), ("default", "AVX512_CORE", 2)]
    failed = 0
    for number in range(0, len(chosen) if tests else 0, 2):
        start = time.monotonic()
        passes = [(begin(tests, environment(*kernels)), kernels) for kernels in chosen[number : number + 2]]
        for process, (vectors, instructions, threads) in passes:
            told, _ = process.communicate()
            summary = told if process.returncode else told.strip().splitlines()[-1]
            print(f"{vectors}, {instructions}, {threads} threads, {time.monotonic() - start:.0f} s: {summary}")
            failed |= process.returncode
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())

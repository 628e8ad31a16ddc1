"""The tests on numbers once more, with the kernels of other processors: ``python -m tests.other_kernels [FOLDER ...]``.

Which kernels compute is decided when torch, oneDNN and MKL are loaded, so that each environment is a process of its
own.  ``make test`` runs two that have each value once; ``--all`` crosses all of them.
"""

import argparse
import itertools
import os
import re
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
    "inference/test_predictor.py::test_it_answers_as_the_run_was_tested",
    "inference/test_predictor.py::test_normalisation_has_the_bits_of_the_feed",
    "internals/test_backward.py",
    "internals/test_functional_grad.py",
    "internals/test_optimizer_step.py",
    "optim/test_optimizer.py",
    "privacy/test_example_rng.py",
    "privacy/test_ghost.py",
    "privacy/test_layers_by_example.py",
    "privacy/test_noise.py",
    "privacy/test_per_example.py",
    "privacy/test_private_rule.py",
    "tasks/test_losses.py",
    "training/test_cpu_float16.py",
    "training/test_ema.py::test_the_recurrence_and_its_start",
    "training/test_ema.py::test_what_was_tested_is_what_was_saved",
    "training/test_equivalence.py::test_accumulation_only_splits_the_logical_batch",
    "training/test_equivalence.py::test_the_same_seed_gives_the_same_bits_and_another_seed_does_not",
    "training/test_eval_chunks.py",
    "training/test_out_of_memory.py::test_the_numbers_are_those_of_a_run_with_room",
    "training/test_precision.py",
    "training/test_stochastic_models.py",
)
"""Tests whose outcome kernels could change, in one process: golden losses, bits, equivalence, tolerances."""
SLOW = (
    "inference/test_exporting.py",
    "inference/test_predictor.py",
    "inference/test_quantize.py",
    "inference/test_scores.py",
    "models/test_oriented_gradients.py",
    "models/test_gradient_checkpointing.py",
    "models/test_scattering.py",
    "models/test_weights.py",
    "optim/test_schedules.py",
    "privacy/test_poisson_sampler.py",
    "training/test_compiled_model.py",
    "training/test_ema.py",
    "training/test_equivalence.py",
    "training/test_one_noise.py",
    "training/test_out_of_memory.py",
    "training/test_resume.py",
)
"""More of them, which take longer than they tell: with ``--all`` alone."""
LEFT_OUT = ("privacy/test_per_example.py::test_in_place_residual_sums_work",)
"""Large networks among ``FILES``, whose small ones tell the same."""
SEVERAL_PROCESSES = ("golden/test_golden_losses.py::test_losses_are_those_that_are_kept[accelerate_two_processes]",)
"""Among ``FILES``, with ``--all`` alone as well: an interpreter for each, to sum gradients that one process has too."""
VECTORS = ("avx2", "default")
"""Of torch's own kernels (``ATEN_CPU_CAPABILITY``)."""
INSTRUCTIONS = ("AVX2", "AVX512_CORE")
"""Of oneDNN's (``ONEDNN_MAX_CPU_ISA``)."""
THREADS = (1, 2)
COUNTED = re.compile(r"\d+ (passed|failed|errors?|skipped|deselected)\b.* in \d")


def environment(vectors, instructions, threads):
    """Variables under which these kernels compute."""
    chosen = {"ATEN_CPU_CAPABILITY": vectors, "ONEDNN_MAX_CPU_ISA": instructions, "OMP_NUM_THREADS": str(threads)}
    # a thread that waits for another one turns in circles, which costs most where the cores are shared
    chosen["OMP_WAIT_POLICY"] = "passive"
    # torch's compiler does not tell them apart: code from its cache that was made for wider vectors ends the process
    chosen["TORCHINDUCTOR_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"torchinductor-{vectors}-{instructions}")
    return chosen | ({"MKL_ENABLE_INSTRUCTIONS": "AVX2"} if instructions == "AVX2" else {})


def asked(folders, files=FILES):
    """Those of ``files`` below one of ``folders``, a part of a file only where the whole of it is not among them."""
    below = [str((ROOT / folder).resolve()) for folder in folders]
    tests = [str(ROOT / "tests" / file) for file in files if "::" not in file or file.split("::")[0] not in files]
    return [test for test in tests if any(test.startswith(folder) for folder in below)]


def begin(tests, variables, left_out):
    """One pass of ``tests``."""
    less = [f"--deselect=tests/{test}" for test in left_out]
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *less, *tests]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def summary(told):
    """The line in which pytest counts the tests; libraries may say something while the interpreter ends."""
    return next((line for line in reversed(told.splitlines()) if COUNTED.search(line)), "no test was counted")


def main():
    """Two environments at a time; ends with 1 if a test fails in one of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="*", default=["tests"])
    parser.add_argument("--all", action="store_true", help="every environment")
    options = parser.parse_args()
    tests = asked(options.folders, FILES + SLOW if options.all else FILES)
    every = list(itertools.product(VECTORS, INSTRUCTIONS, THREADS))
    chosen = every if options.all else [("avx2", "AVX2", 1), ("default", "AVX512_CORE", 2)]
    left_out = LEFT_OUT if options.all else LEFT_OUT + SEVERAL_PROCESSES
    failed = 0
    for number in range(0, len(chosen) if tests else 0, 2):
        start = time.monotonic()
        passes = [(begin(tests, environment(*kernels), left_out), kernels) for kernels in chosen[number : number + 2]]
        for process, (vectors, instructions, threads) in passes:
            told, _ = process.communicate()
            if process.returncode:
                print(told)
            print(f"{vectors}, {instructions}, {threads} threads, {time.monotonic() - start:.0f} s: {summary(told)}")
            failed |= process.returncode
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())

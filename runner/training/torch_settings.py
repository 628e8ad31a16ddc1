"""Process-wide settings of torch for a run, restored afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from runner.planning.plan import Plan


@contextmanager
def torch_settings(plan: Plan) -> Iterator[None]:
    """Threads, TensorFloat-32, determinism and kernel search as the plan wants them."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    matmul_tf32, cudnn_tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    benchmark = torch.backends.cudnn.benchmark
    torch.set_num_threads(plan.performance.threads)
    # Even to leave it as it is imports the compiler, which takes a second.
    if plan.performance.deterministic != deterministic:
        torch.use_deterministic_algorithms(plan.performance.deterministic)
    torch.backends.cuda.matmul.allow_tf32 = plan.semantic.precision.tf32
    torch.backends.cudnn.allow_tf32 = plan.semantic.precision.tf32
    # Poisson batches change shape at every step, and a search per shape would never end.
    torch.backends.cudnn.benchmark = not plan.performance.deterministic and plan.semantic.privacy is None
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if plan.performance.deterministic != deterministic:
            torch.use_deterministic_algorithms(deterministic)
        torch.backends.cuda.matmul.allow_tf32 = matmul_tf32
        torch.backends.cudnn.allow_tf32 = cudnn_tf32
        torch.backends.cudnn.benchmark = benchmark

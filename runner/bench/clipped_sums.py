"""Proof that two private steps agree although both are random: equal sampling rates and clipped sums."""

from __future__ import annotations

import copy
import warnings
from contextlib import nullcontext
from pathlib import Path

import torch
from opacus import PrivacyEngine
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from runner.bench.task import Task, load_prepared
from runner.errors import RunError
from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.noise import NoiseSource
from runner.privacy.mechanism.poisson_sampler import PoissonSampler
from runner.privacy.mechanism.private_rule import PrivateRule
from runner.tasks.losses import cross_entropy as per_example
from runner.training.distributed.world import SingleProcess

_TOLERANCE = 1e-5
"""Of the largest difference of two sums, over the largest number in them; float32."""
_DRAWS = 200


def prove(task: Task, prepared: Path, *, grad_sample: str) -> str:
    """Compare the runner's private rule with Opacus' hooks and ghost clipping: a sentence with the differences.

    Raises:
        RunError: they do not compute the same, so that their times must not be compared.
    """
    given = load_prepared(prepared)
    images, labels = given.images[: task.batch], given.labels[: task.batch]
    norm = _median_norm(given.model, images, labels)
    ours = _through_runner(copy.deepcopy(given.model), images, labels, norm, grad_sample)
    differences = []
    for mode in ("hooks", "ghost"):
        theirs = _through_opacus(copy.deepcopy(given.model), images, labels, norm, mode)
        difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        if difference > _TOLERANCE:
            raise RunError(f"the clipped sums of the runner and of Opacus' {mode} differ by {difference:.1g}")
        differences.append(f"{difference:.0e} ({mode})")
    rate = task.batch / len(given.labels)
    stream = PoissonSampler(len(given.labels), rate, SecretKey.from_unsafe_seed(0))
    mean = sum(len(stream.rows(step)) for step in range(_DRAWS)) / _DRAWS
    # Five standard errors of a mean of binomials
    if abs(mean - task.batch) > 5 * (task.batch * (1 - rate) / _DRAWS) ** 0.5:
        raise RunError(f"batches of {mean:.1f} examples on average where {task.batch} were asked")
    return (
        f"All private steps draw each example with the rate {rate:g} (the runner's first {_DRAWS} batches held "
        f"{mean:.1f} examples on average), and on one batch without noise, clipped to the median norm, their sums "
        f"agree: the runner's ({grad_sample}) and Opacus' differ by {' and '.join(differences)} of the largest number."
    )


def _median_norm(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """L2 norm of a single example's gradient, so that half of the examples are clipped."""
    norms = []
    for row in range(len(labels)):
        loss = cross_entropy(model(images[row : row + 1]), labels[row : row + 1])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm())
    return float(torch.stack(norms).median())


def _through_runner(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, norm: float, grad_sample: str
) -> torch.Tensor:
    rule = PrivateRule(
        model,
        loss=per_example(0.0),
        forward=nullcontext,
        world=SingleProcess(torch.device("cpu")),
        noise=NoiseSource(SecretKey.from_unsafe_seed(0), secure=False),
        max_grad_norm=norm,
        noise_multiplier=0.0,
        expected_batch=len(labels),
        grad_sample=grad_sample,
    )
    rule.begin(len(labels))
    rule.add(images, labels)
    rule.release(0)
    return _flat(model)


def _through_opacus(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, norm: float, mode: str
) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = PrivacyEngine().make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
            criterion=nn.CrossEntropyLoss(),
            data_loader=DataLoader(TensorDataset(images, labels), batch_size=len(labels)),
            noise_multiplier=0.0,
            max_grad_norm=norm,
            poisson_sampling=False,
            grad_sample_mode=mode,
        )
        private, optimizer = made[:2]
        criterion = made[2] if mode == "ghost" else nn.CrossEntropyLoss()
        criterion(private(images), labels).backward()
        optimizer.step()
    return _flat(model)


def _flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

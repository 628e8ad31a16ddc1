"""Each loss and weighting is its formula in float64, by example and in sum, and under torch.func."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from runner.errors import RequestError, RunError
from tests.conftest import ROOT
from tests.tasks.plain_task import plain_task

WEIGHTS = (0.5, 2.0, 1.25, 4.0)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(9, 4, dtype=torch.float64, generator=generator)
    return logits.requires_grad_(), torch.randint(4, (9,), generator=generator)


@pytest.fixture
def shares():
    return torch.rand(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).softmax(1)


def by_hand(logits, targets, *, gamma=0.0, weights=(1.0,) * 4):
    """-sum_k t_k w_k (1 - p_k)^gamma log p_k, number by number."""
    probabilities = logits.detach().exp() / logits.detach().exp().sum(1, keepdim=True)
    return torch.stack([
        -sum(t * w * (1 - p) ** gamma * p.log() for t, w, p in zip(target, weights, row, strict=True))
        for target, row in zip(targets, probabilities, strict=True)
    ])  # fmt: skip


SETTINGS = [
    {},
    {"class_weights": WEIGHTS},
    {"loss": "focal"},
    {"loss": "focal", "focal_gamma": 0.5, "class_weights": WEIGHTS},
]


def expected(settings, logits, targets):
    gamma = settings.get("focal_gamma", 2.0) if "loss" in settings else 0.0
    return by_hand(logits, targets, gamma=gamma, weights=settings.get("class_weights", (1.0,) * 4))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_loss_is_its_formula(batch, shares, settings):
    logits, labels = batch
    task = plain_task(**settings)
    for given, targets in ((labels, F.one_hot(labels, 4).double()), (shares, shares)):
        formula = expected(settings, logits, targets)
        assert (task.losses(logits, given) - formula).abs().max() < 1e-12
        total, outputs = task.total(torch.nn.Identity(), logits, given)
        assert (total - formula.sum()).abs() < 1e-12
        assert outputs is logits
    parts = torch.func.vmap(lambda row, label: task.losses_in_parts(row[None], label[None])[0])(logits, labels)
    assert (parts - task.losses(logits, labels)).abs().max() < 1e-12
    assert torch.autograd.gradcheck(lambda x: task.losses(x, labels), logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_are_those_of_torch_before_it_divides(batch, shares, smoothing):
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    task = plain_task(class_weights=WEIGHTS, label_smoothing=smoothing)
    for given in (batch[1], shares):
        theirs = F.cross_entropy(batch[0], given, weight=weights, label_smoothing=smoothing, reduction="none")
        assert (task.losses(batch[0], given) - theirs).abs().max() < 1e-12


def test_focal_without_gamma_is_cross_entropy_and_far_off_it_stays_finite(batch):
    found = plain_task(loss="focal", focal_gamma=0.0).losses(*batch)
    assert (found - plain_task().losses(*batch)).abs().max() < 1e-12
    sure = torch.tensor([[200.0, 0.0, 0.0, 0.0]], requires_grad=True)
    plain_task(loss="focal", focal_gamma=0.5).losses(sure, torch.tensor([0])).sum().backward()
    assert sure.grad.isfinite().all()


def test_evaluations_report_cross_entropy_whatever_is_trained(batch):
    plain, weighted = (plain_task(**each).judge(*batch) for each in ({}, {"loss": "focal", "class_weights": WEIGHTS}))
    assert torch.equal(plain.losses, weighted.losses)
    assert torch.equal(plain.losses, F.cross_entropy(*batch, reduction="none"))


def test_balanced_weights_are_those_of_scikit_learn(plan_of, configure):
    from sklearn.utils.class_weight import compute_class_weight

    from runner.data.open import open_data

    labels = open_data(configure("data.limit=300", "hardware=cpu").data).train.labels
    theirs = compute_class_weight("balanced", classes=np.arange(10), y=labels)
    ours = plan_of("task.class_weights=balanced").semantic.task.class_weights
    assert ours == pytest.approx(list(theirs), rel=1e-12)
    assert sum(ours[label] for label in labels) == pytest.approx(len(labels), rel=1e-12)


def mean_of_the_batch(logits, labels):
    """What most people would write, and what neither clipping nor the denominator can use."""
    return F.cross_entropy(logits, labels)


def hinge(logits, labels):
    """The multi-class hinge loss (Crammer and Singer 2001)."""
    own = logits.gather(1, labels[:, None])
    return (1 + logits - own).scatter(1, labels[:, None], 0.0).clamp(min=0).amax(1)


def test_a_loss_of_one_s_own(batch, monkeypatch):
    with pytest.raises(RequestError, match=r"task\.loss"):
        plain_task(loss="tests.tasks.test_class_losses.hinge")
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "tests")
    found = plain_task(loss="tests.tasks.test_class_losses.hinge").losses(*batch)
    assert torch.equal(found, hinge(*batch))
    with pytest.raises(RunError, match="one loss for each"):
        plain_task(loss="tests.tasks.test_class_losses.mean_of_the_batch").losses(*batch)


def test_the_loss_on_the_page_is_one(batch):
    (code,) = re.findall(r"```python\n(# my_parts/losses\.py\n.*?)```", (ROOT / "docs" / "tasks.md").read_text(), re.S)
    scope = {}
    exec(code, scope)
    assert torch.equal(scope["hinge"](*batch), hinge(*batch))


def test_the_sweep_on_the_page_composes(configure):
    (line,) = re.findall(r"python -m runner -m (.*task\.loss.*)", (ROOT / "docs" / "tasks.md").read_text())
    *fixed, losses, weights = line.split()
    for loss in losses.partition("=")[2].split(","):
        for given in weights.partition("=")[2].split(","):
            config = configure(*fixed, f"task.loss={loss}", f"task.class_weights={given}")
            assert (config.task.loss, config.task.class_weights) == (loss, None if given == "null" else given)

import pytest
import torch
import torch.nn.functional as F

from runner.tasks.losses import cross_entropy, cross_entropy_in_parts, log_probabilities


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(37, 10, generator=generator), torch.randint(10, (37,), generator=generator)


def test_cross_entropy_in_parts_has_the_same_bits(batch):
    whole, parts = (batch[0].clone().requires_grad_() for _ in range(2))
    cross_entropy(0.0)(whole, batch[1]).sum().backward()
    cross_entropy_in_parts(0.0)(parts, batch[1]).sum().backward()
    assert torch.equal(cross_entropy(0.0)(*batch), cross_entropy_in_parts(0.0)(*batch))
    assert torch.equal(whole.grad, parts.grad)


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_cross_entropy_in_parts_is_smoothed_alike(batch, smoothing):
    torch.testing.assert_close(cross_entropy_in_parts(smoothing)(*batch), cross_entropy(smoothing)(*batch))
    assert not torch.allclose(cross_entropy_in_parts(smoothing)(*batch), cross_entropy(0.0)(*batch))


@pytest.mark.parametrize("classes", [1, 2, 10, 15, 16, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_probabilities_are_log_softmax(classes, dtype):
    logits = 3 * torch.randn(37, classes, generator=torch.Generator().manual_seed(1)).to(dtype)
    torch.testing.assert_close(log_probabilities(logits), F.log_softmax(logits, 1))
    assert log_probabilities(logits).shape == (37, classes)


def test_few_classes_lie_class_by_class(batch):
    assert log_probabilities(batch[0]).stride() == (1, 37)
    assert log_probabilities(batch[0].repeat(1, 2)).stride() == (20, 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_shares_of_classes_cost_what_the_formula_says(smoothing):
    generator = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(37, 10, generator=generator, dtype=torch.float64)
    shares = torch.rand(37, 10, generator=generator, dtype=torch.float64)
    shares /= shares.sum(1, keepdim=True)
    smoothed = (1 - smoothing) * shares + smoothing / 10
    expected = -(smoothed * (logits - logits.exp().sum(1, keepdim=True).log())).sum(1)
    assert (cross_entropy(smoothing)(logits, shares) - expected).abs().max() < 1e-12
    assert (cross_entropy(smoothing)(logits, shares).sum() - expected.sum()).abs() < 1e-12
    # A class as a share is the class itself.
    labels = torch.randint(10, (37,), generator=generator)
    whole = torch.nn.functional.one_hot(labels, 10).to(torch.float64)
    assert (cross_entropy(smoothing)(logits, whole) - cross_entropy(smoothing)(logits, labels)).abs().max() < 1e-12

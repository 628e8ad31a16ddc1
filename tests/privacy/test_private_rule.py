import contextlib
import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.privacy.example_gradients.per_example import trainable
from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.noise import NoiseSource
from runner.privacy.mechanism.private_rule import PrivateRule

MODES = ("ghost", "functional", "hooks")
CLIP = 10.9


class OneProcess:
    def sum_(self, tensor, flags=()):
        return list(flags)


def loss(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def make_model(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(256, 5)
    ).to(dtype)


def make_batch(size=7, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    # different magnitudes, so that some gradients are clipped and some are not
    images = torch.randn(size, 1, 8, 8, generator=generator) * torch.logspace(-2, 1, size).view(-1, 1, 1, 1)
    return images.to(dtype), torch.arange(size) % 5


def make_rule(model, *, world=None, **changes):
    settings = {
        "loss": loss,
        "forward": contextlib.nullcontext,
        "noise": NoiseSource(SecretKey.from_unsafe_seed(0), secure=True),
        "max_grad_norm": CLIP,
        "noise_multiplier": 0.0,
        "expected_batch": 10.0,
    }
    return PrivateRule(model, world=world or OneProcess(), **(settings | changes))


def release(rule, images, labels, *, sizes=None, step=0):
    rule.begin(10.0)
    for part, targets in zip(images.split(sizes or len(labels)), labels.split(sizes or len(labels)), strict=True):
        rule.add(part, targets)
    rule.share((False, False))
    rule.release(step)
    return gradient_of(rule)


def gradient_of(rule):
    return torch.cat([parameter.grad.flatten() for parameter in rule._parameters])


def clipped_one_at_a_time(model, images, labels, clip=CLIP, scale=1.0):
    parameters = list(trainable(model).values())
    rows = []
    for i in range(len(labels)):
        found = torch.autograd.grad(scale * loss(model(images[[i]]), labels[[i]]).sum(), parameters)
        row = torch.cat([gradient.flatten() for gradient in found])
        rows.append(row * min(1.0, clip / float(row.norm())) / scale)
    return torch.stack(rows)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("sizes", [7, 3, 2, [1, 4, 2]])
def test_the_clipped_sum_is_that_of_one_example_at_a_time(mode, dtype, tolerance, sizes):
    model = make_model(dtype)
    images, labels = make_batch(dtype=dtype)
    rows = clipped_one_at_a_time(model, images, labels)
    norms = rows.norm(dim=1)
    assert 0 < int((norms > CLIP * 0.999).sum()) < len(norms)
    found = release(make_rule(model, grad_sample=mode), images, labels, sizes=sizes)
    assert found.dtype == dtype
    assert (found - rows.sum(0) / 10).norm() <= tolerance * (rows.sum(0) / 10).norm()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("sizes", [7, 2])
def test_a_non_finite_example_counts_as_removed(mode, value, sizes):
    model = make_model(torch.float64)
    images, labels = make_batch(dtype=torch.float64)
    broken = images.clone()
    broken[3, 0, 2, 2] = value
    keep = torch.tensor([0, 1, 2, 4, 5, 6])
    rule = make_rule(model, grad_sample=mode)
    expected = release(rule, images[keep], labels[keep]).clone()
    assert int(rule.zeroed) == 0
    found = release(rule, broken, labels, sizes=sizes)
    assert int(rule.zeroed) == 1
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mode", MODES)
def test_an_example_left_out_counts_with_the_mean_loss_of_the_others(mode):
    model = make_model()
    images, labels = make_batch()
    logits = model(images).detach()
    rule = make_rule(model, grad_sample=mode, static_scale=8.0)
    total, hits = rule.add(images, labels)
    torch.testing.assert_close(total, loss(logits, labels).sum())
    assert torch.equal(hits, logits.argmax(1) == labels)
    assert total.dtype == torch.float32
    assert not total.requires_grad
    images[3] = float("nan")
    total, _ = rule.add(images, labels)
    others = loss(logits, labels)[torch.arange(len(labels)) != 3]
    torch.testing.assert_close(total, others.mean() * len(labels))
    total, _ = rule.add(torch.full_like(images, float("nan")), labels)
    assert total.isnan()


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_batch_is_noise_alone(mode):
    model = make_model()
    rule = make_rule(model, grad_sample=mode, noise_multiplier=2.0)
    noise = NoiseSource(SecretKey.from_unsafe_seed(0), secure=True).normal(4, rule._flat.numel(), torch.device("cpu"))
    rule.begin(10.0)
    total, hits = rule.add(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    assert (float(total), len(hits)) == (0.0, 0)
    norm = rule.release(4)
    torch.testing.assert_close(gradient_of(rule), noise * 2.0 * CLIP / 10)
    torch.testing.assert_close(norm, gradient_of(rule).norm())


def test_noise_has_standard_deviation_sigma_times_clip_over_batch():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5000))
    images, labels = make_batch()
    clean = release(make_rule(model), images, labels).clone()
    noised = release(make_rule(model, noise_multiplier=3.0), images, labels)
    noise = noised - clean
    assert noise.numel() == 325_000
    assert abs(float(noise.std()) / (3.0 * CLIP / 10) - 1) < 0.01
    assert abs(float(noise.mean())) < 4 * 0.3 * CLIP / math.sqrt(325_000)


def test_noise_is_added_once_whatever_the_number_of_micro_batches():
    images, labels = make_batch()
    rule = make_rule(make_model(), noise_multiplier=3.0)
    whole = release(rule, images, labels).clone()
    torch.testing.assert_close(release(rule, images, labels, sizes=1), whole, rtol=1e-5, atol=1e-6)


def test_a_step_repeats_and_another_step_has_other_noise():
    images, labels = make_batch()
    rule = make_rule(make_model(), noise_multiplier=1.0)
    first = release(rule, images, labels, step=1).clone()
    second = release(rule, images, labels, step=2).clone()
    again = release(make_rule(make_model(), noise_multiplier=1.0), images, labels, step=1)
    assert torch.equal(first, again)
    assert not bool((first == second).any())


@pytest.mark.parametrize("mode", MODES)
def test_a_static_scale_is_taken_out_before_clipping(mode):
    model = make_model(torch.float64)
    images, labels = make_batch(dtype=torch.float64)
    plain = release(make_rule(model, grad_sample=mode), images, labels).clone()
    scaled = release(make_rule(model, grad_sample=mode, static_scale=1024.0), images, labels)
    torch.testing.assert_close(scaled, plain, rtol=1e-12, atol=1e-15)
    # the trap: clipping the scaled gradients, as a GradScaler makes Opacus' optimizer do
    wrong = clipped_one_at_a_time(model, images, labels, scale=1024.0).sum(0) / 10
    assert (wrong - plain).norm() > 0.5 * plain.norm()


@pytest.mark.parametrize("mode", MODES)
def test_float16_with_a_static_scale_is_close_to_float32(mode):
    model = make_model()
    images, labels = make_batch()
    exact = release(make_rule(model, grad_sample=mode), images, labels).clone()

    def forward():
        return torch.autocast("cpu", torch.float16)

    unscaled = release(make_rule(model, grad_sample=mode, forward=forward), images, labels).clone()
    scaled = release(make_rule(model, grad_sample=mode, forward=forward, static_scale=256.0), images, labels)
    for found in (unscaled, scaled):
        assert 0 < (found - exact).norm() < 2e-3 * exact.norm()
    assert scaled.dtype == torch.float32


def test_a_static_scale_saves_gradients_that_float16_loses():
    model = make_model()
    images, labels = make_batch(size=3)

    def faint(logits, labels):
        return loss(logits, labels) * 1e-7

    def forward():
        return torch.autocast("cpu", torch.float16)

    exact = release(make_rule(model, loss=faint), images, labels).clone()
    lost = release(make_rule(model, loss=faint, forward=forward), images, labels).clone()
    saved = release(make_rule(model, loss=faint, forward=forward, static_scale=2.0**20), images, labels)
    assert (lost - exact).norm() > 0.1 * exact.norm()
    assert (saved - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_no_example_exceeds_the_clipping_norm(mode, dtype):
    model = make_model()
    images, labels = make_batch(size=24)
    rule = make_rule(model, grad_sample=mode, max_grad_norm=0.1, forward=lambda: torch.autocast("cpu", dtype))
    norms = []
    for i in range(24):
        rule.begin(10.0)
        rule.add(images[[i]], labels[[i]])
        norms.append(float(rule._flat.double().norm()))
    assert max(norms) <= 0.1 * (1 + 1e-6)
    assert sum(norm > 0.1 * (1 - 1e-6) for norm in norms) >= 6


@pytest.mark.parametrize("mode", MODES)
def test_without_clipping_and_noise_it_is_the_mean_rule_times_a_constant(mode):
    model = make_model(torch.float64)
    images, labels = make_batch(dtype=torch.float64)
    mean = torch.autograd.grad(loss(model(images), labels).mean(), list(model.parameters()))
    mean = torch.cat([gradient.flatten() for gradient in mean])
    found = release(make_rule(model, grad_sample=mode, max_grad_norm=1e9), images, labels)
    torch.testing.assert_close(found, mean * 7 / 10, rtol=1e-12, atol=1e-15)


def test_gradients_are_views_of_one_buffer_that_optimizers_take():
    model = make_model()
    model[0].weight.requires_grad_(False)
    model = model.to(memory_format=torch.channels_last)
    images, labels = make_batch()
    rule = make_rule(model, noise_multiplier=1.0)
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=0.1, fused=True)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for step in range(2):
        release(rule, images, labels, step=step)
        assert model[0].weight.grad is None
        for parameter in trainable(model).values():
            assert parameter.grad.untyped_storage().data_ptr() == rule._flat.untyped_storage().data_ptr()
            assert parameter.grad.stride() == parameter.stride()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(before[name], parameter)}
    assert changed == set(before) - {"0.weight"}


@pytest.mark.parametrize("mode", MODES)
def test_channels_last_weights_get_the_same_gradient(mode):
    def two_convolutions():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(48, 5)).double()

    images, labels = make_batch(dtype=torch.float64)
    model = two_convolutions()
    other = two_convolutions().to(memory_format=torch.channels_last)
    assert not other[2].weight.is_contiguous()
    release(make_rule(model, grad_sample=mode), images, labels)
    release(make_rule(other, grad_sample=mode), images.to(memory_format=torch.channels_last), labels)
    for parameter, twin in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, twin.grad, rtol=1e-10, atol=1e-14)
        # fused optimizers want the gradient in the parameter's own memory order
        assert twin.grad.stride() == twin.stride()


def test_the_number_of_examples_drawn_is_no_denominator():
    rule = make_rule(make_model())
    with pytest.raises(ValueError, match=r"divided by 10\.0, not by 7"):
        rule.begin(7.0)


def test_a_logical_batch_leaves_nothing_for_the_next():
    # Opacus' BatchMemoryManager, left early, adds the last batch to the next one
    images, labels = make_batch(dtype=torch.float64)
    rule = make_rule(make_model(torch.float64))
    expected = release(rule, images[:2], labels[:2]).clone()
    rule.begin(10.0)
    rule.add(images, labels)
    torch.testing.assert_close(release(rule, images[:2], labels[:2]), expected, rtol=0, atol=0)


def test_a_copied_model_has_no_trace_of_the_rule():
    model = make_model()
    release(make_rule(model, grad_sample="hooks"), *make_batch())
    model.zero_grad()
    twin = copy.deepcopy(model)
    assert list(twin.state_dict()) == list(make_model().state_dict())
    assert not any(module._forward_hooks or module._backward_hooks for module in twin.modules())

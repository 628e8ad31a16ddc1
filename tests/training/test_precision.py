import copy

import pytest
import torch

from runner.training.distributed.world import SingleProcess
from runner.training.gradients.mean_rule import MeanRule
from runner.training.precision.precision import Bfloat16, Float16, NonFiniteGradient, Precision, ScaledFloat16
from tests.tasks.plain_task import plain_task

CPU = torch.device("cpu")
SCALER = {"init_scale": 2.0**15, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 3}


def small_model(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))


def batches(count, bad=()):
    generator = torch.Generator().manual_seed(5)
    for step in range(count):
        images = torch.randn(8, 6, generator=generator)
        if step in bad:
            images[3] = float("inf")
        yield images, torch.randint(0, 3, (8,), generator=generator)


def test_the_loss_scale_follows_torchs_grad_scaler_step_by_step():
    ours, theirs = small_model(), small_model()
    precision = ScaledFloat16(CPU, **SCALER, max_skipped_in_a_row=50)
    scaler = torch.amp.GradScaler("cpu", **SCALER)
    rule = MeanRule(ours, task=plain_task(), precision=precision, world=SingleProcess(CPU), clip_norm=0.5)
    our_optimizer = torch.optim.SGD(ours.parameters(), lr=0.5, momentum=0.9)
    their_optimizer = torch.optim.SGD(theirs.parameters(), lr=0.5, momentum=0.9)
    scales = []
    for step, (images, labels) in enumerate(batches(25, bad=(4, 5, 13))):
        rule.begin(8)
        rule.add(images, labels)
        rule.release(step)
        precision.step(our_optimizer, list(ours.parameters()), step)

        their_optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = torch.nn.functional.cross_entropy(theirs(images), labels, reduction="sum") / 8
        scaler.scale(loss).backward()
        scaler.unscale_(their_optimizer)
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        scaler.step(their_optimizer)
        scaler.update()

        assert precision.loss_scale.item() == scaler.get_scale()
        scales.append(scaler.get_scale())
        for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, reference, rtol=1e-6, atol=1e-7)
    shrunk = sum(after < before for before, after in zip([SCALER["init_scale"], *scales], scales, strict=False))
    assert precision.skipped == shrunk >= 3
    assert max(scales) > SCALER["init_scale"], "the scale must have grown too, or this test shows less than it says"


def with_gradient(gradient):
    parameter = torch.nn.Parameter(torch.zeros_like(gradient))
    parameter.grad = gradient.clone()
    return parameter


def test_float16_clips_the_true_gradient_not_the_scaled_one():
    images, labels = next(batches(1))
    norms = {}
    for scale in (1.0, 2.0**12):
        model = small_model()
        precision = ScaledFloat16(CPU, **SCALER | {"init_scale": scale}, max_skipped_in_a_row=50)
        rule = MeanRule(
            model,
            task=plain_task(),
            precision=precision,
            world=SingleProcess(CPU),
            clip_norm=0.01,
        )
        rule.begin(8)
        rule.add(images, labels)
        before = rule.release(0)
        after = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
        assert before > 0.01, "the gradient must be long enough to be clipped"
        assert after.item() == pytest.approx(0.01, rel=1e-3)
        norms[scale] = before.item()
    assert norms[1.0] == pytest.approx(norms[2.0**12], rel=1e-3)


def test_a_resumed_scale_goes_on_where_it_was():
    first = ScaledFloat16(CPU, **SCALER, max_skipped_in_a_row=50)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    steps = [
        torch.full((2,), float("inf")),
        torch.ones(2),
        torch.ones(2),
        torch.full((2,), float("nan")),
        torch.ones(2),
    ]
    for step, gradient in enumerate(steps[:3]):
        first.step(optimizer, [with_gradient(gradient)], step)
    second = ScaledFloat16(CPU, **SCALER, max_skipped_in_a_row=50)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for precision in (first, second):
        for step, gradient in enumerate(steps[3:], start=3):
            precision.step(optimizer, [with_gradient(gradient)], step)
    assert {k: v.item() for k, v in first.state_dict().items()} == {k: v.item() for k, v in second.state_dict().items()}


def test_float16_gives_up_after_too_many_skips_in_a_row():
    precision = ScaledFloat16(CPU, **SCALER, max_skipped_in_a_row=3)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    bad, good = torch.full((2,), float("inf")), torch.ones(2)
    for step, gradient in enumerate([bad, bad, good, bad, bad]):
        precision.step(optimizer, [with_gradient(gradient)], step)
    with pytest.raises(NonFiniteGradient) as caught:
        precision.step(optimizer, [with_gradient(bad)], 5)
    assert caught.value.step == 5


@pytest.mark.parametrize("build", [Precision, Bfloat16, Float16, lambda device: Precision(device, torch.float64)])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("fused", [True, False])
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(build, wrong, fused):
    precision = build(CPU)
    model = small_model().to(precision.parameter_dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    gradients = [torch.ones_like(p) for p in model.parameters()]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient
    precision.step(optimizer, list(model.parameters()), 6)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    gradients[2].view(-1)[5] = wrong
    with pytest.raises(NonFiniteGradient) as caught:
        precision.step(optimizer, list(model.parameters()), 7)
    assert caught.value.step == 7
    torch.testing.assert_close((model.state_dict(), optimizer.state_dict()["state"]), before, rtol=0, atol=0)


def test_sixteen_bits_are_used_in_the_forward_pass_and_nowhere_else():
    for build, dtype in ((Bfloat16, torch.bfloat16), (Float16, torch.float16)):
        precision = build(CPU)
        model = small_model()
        with precision.forward():
            assert model(torch.randn(2, 6)).dtype == dtype
        assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.gpu
def test_on_a_gpu_a_held_back_update_is_named_later_and_the_weights_stay():
    device = torch.device("cuda", 0)
    precision = Precision(device)
    precision.start_at(10)
    parameter = torch.nn.Parameter(torch.ones(4, device=device))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, fused=True)
    for step in range(10, 16):
        parameter.grad = torch.full((4,), float("nan") if step == 13 else 1.0, device=device)
        if step == 13:
            torch.cuda.synchronize()
            kept = parameter.detach().clone()
        precision.step(optimizer, [parameter], step)
    with pytest.raises(NonFiniteGradient) as caught:
        precision.raise_if_stopped(15)
    assert caught.value.step == 13
    assert torch.equal(parameter, kept)

"""Blocks that are computed again in the backward pass: the same numbers for less memory."""

import json

import pytest
import torch
from torch import nn
from torchvision.models import efficientnet_b0, mobilenet_v3_small, resnet18, vit_b_16

from runner.data.open import open_data
from runner.errors import RequestError
from runner.models.gradient_checkpointing import blocks, recompute_blocks
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.training.distributed.world import SingleProcess
from runner.training.parts import build_parts
from runner.training.precision.cpu_float16 import half_forward
from runner.training.step import TrainStep


class Block(nn.Module):
    """Everything that a second pass may get wrong: random numbers, statistics, precision."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, images):
        return images + self.body(images)


def two_updates(again, forward):
    torch.manual_seed(0)
    model = nn.Sequential(Block(), Block(), nn.Flatten(), nn.Linear(4 * 64, 3))
    if again:
        recompute_blocks(model, name="made here", forward=forward)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kept = []
    for _ in range(2):
        optimizer.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t), forward():
            loss = model(torch.randn(8, 4, 8, 8)).square().mean()
        loss.backward()
        optimizer.step()
    return model, torch.rand(1), sum(kept)


@pytest.mark.parametrize("forward", [torch.enable_grad, half_forward], ids=["float32", "float16"])
def test_weights_statistics_and_random_numbers_are_those_of_one_pass(forward):
    plain, after, kept = two_updates(False, forward)
    again, after_again, kept_again = two_updates(True, forward)
    assert after == after_again
    state = again.state_dict()
    assert list(state) == list(plain.state_dict())
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0, msg=name)
    assert state["0.body.1.num_batches_tracked"] == 2
    assert kept_again < 0.7 * kept


def test_blocks_of_the_usual_models_are_found():
    for build, count in ((resnet18, 8), (efficientnet_b0, 16), (mobilenet_v3_small, 11), (vit_b_16, 12)):
        with torch.device("meta"):
            found = blocks(build())
        assert len(found) == count, build
        assert len({type(block) for block in found}) == 1


def test_a_model_without_blocks_is_refused():
    with pytest.raises(RequestError, match="not made of blocks"):
        recompute_blocks(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), name="mlp", forward=torch.enable_grad)


def test_a_run_has_the_identity_and_the_losses_of_one_that_keeps_everything(configure):
    losses, identities = [], []
    for again in ("false", "true"):
        config = configure(
            "hardware=cpu", "hardware.threads=1", "model=mobilenet_v3_small", "data.limit=40", "data.batch_size=8",
            "trainer.steps=2", f"model.gradient_checkpointing={again}",
        )  # fmt: skip
        data = open_data(config.data)
        plan = build_plan(config, data, detect_device(config.hardware), processes=1)
        parts = build_parts(plan, data, SingleProcess(torch.device("cpu")))
        step = TrainStep(parts)
        step.run(0)
        step.run(1)
        losses.append([parameter.detach().clone() for parameter in parts.parameters])
        identities.append(plan.identity)
        json.dumps(plan.as_dict())
    assert identities[0] == identities[1]
    for one, other in zip(*losses, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)

"""Recorded micro-batches give the gradients, answers, statistics and random numbers of those that are launched."""

import pytest
import torch
from torch import nn

from runner.errors import RunError
from runner.training.distributed.world import SingleProcess
from runner.training.gradients import graphed_mean_rule
from runner.training.gradients.graphed_mean_rule import GraphedMeanRule
from runner.training.gradients.mean_rule import MeanRule
from runner.training.precision.precision import Precision, ScaledFloat16
from tests.tasks.plain_task import plain_task

SIZES = {"training": 4}


class Net(nn.Module):
    """Statistics that move, random numbers, and a weight that the loss does not depend on."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3)
        )
        self.unused = nn.Linear(2, 2)

    def forward(self, images):
        return self.body(images)


def no_stream(run, device, *, times):
    """What ``run_on_side_stream`` does, where there are no streams."""
    state = torch.get_rng_state()
    for _ in range(times):
        run()
    torch.set_rng_state(state)


def recording(model):
    """A stand-in for CUDA graphs on a CPU: nothing is computed while it records, and replays write to one memory."""

    def record(run):
        state = torch.get_rng_state()
        tensors = [*model.buffers(), *(p.grad for p in model.parameters() if p.grad is not None)]
        kept = [tensor.clone() for tensor in tensors]
        outputs = run()
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)
        torch.set_rng_state(state)

        def replay():
            for output, value in zip(outputs, run(), strict=True):
                output.copy_(value)

        return outputs, replay

    return record


def trained(kind, device, half, recorder):
    torch.manual_seed(0)
    model = Net().to(device)
    if recorder is not None:
        recorder(model)
    precision = Precision(device)
    if half:
        precision = ScaledFloat16(device, init_scale=1024.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=2,
                                  max_skipped_in_a_row=5)  # fmt: skip
    options = {"task": plain_task(), "precision": precision, "world": SingleProcess(device),
               "clip_norm": 0.5}  # fmt: skip
    rule = MeanRule(model, **options) if kind is MeanRule else GraphedMeanRule(model, sizes=SIZES, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    images, labels = torch.randn(11, 1, 8, 8).to(device), torch.randint(0, 3, (11,)).to(device)
    seen = []
    for step in range(4):
        torch.manual_seed(100 + step)
        rule.begin(11.0)
        # the last one of each update is too short to be recorded
        seen += [rule.add(images[start : start + 4], labels[start : start + 4]) for start in (0, 4, 8)]
        seen.append((rule.release(step), None))
        precision.step(optimizer, [p for p in model.parameters() if p.grad is not None], step)
    figures = [loss.clone() for loss, _ in seen] + [answers.logits for _, answers in seen if answers is not None]
    return model, figures


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("place", ["stand-in", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_recording_computes_what_a_launch_does(place, half, monkeypatch):
    recorder = None
    if place == "stand-in":
        monkeypatch.setattr(graphed_mean_rule, "run_on_side_stream", no_stream)
        recorder = lambda model: monkeypatch.setattr(graphed_mean_rule, "record", recording(model))  # noqa: E731
    device = torch.device("cpu") if place == "stand-in" else torch.device("cuda", 0)
    plain, figures = trained(MeanRule, device, half, None)
    graphed, replayed = trained(GraphedMeanRule, device, half, recorder)
    tolerance = {"rtol": 0, "atol": 0} if place == "stand-in" else {"rtol": 1e-4, "atol": 1e-5}
    assert graphed.unused.weight.grad is None
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(graphed.state_dict()[name], value, **tolerance, msg=name)
    for found, expected in zip(replayed, figures, strict=True):
        torch.testing.assert_close(found, expected, **tolerance)


def test_a_model_that_cannot_be_recorded_ends_in_one_line(monkeypatch):
    def refuse(run):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nsecond line")

    monkeypatch.setattr(graphed_mean_rule, "run_on_side_stream", no_stream)
    monkeypatch.setattr(graphed_mean_rule, "record", refuse)
    with pytest.raises(RunError, match=r"stream is capturing\); try hardware\.cuda_graphs=false$"):
        trained(GraphedMeanRule, torch.device("cpu"), False, None)

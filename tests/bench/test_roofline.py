"""Rates beside what the device can do."""

import pytest
from torch import nn

from runner.bench import roofline as module
from runner.bench.roofline import Limits, Work, measure_limits, shares, work_of


def test_the_work_of_a_linear_layer():
    work = work_of(nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False)), (3, 2, 2))
    # forward, and the gradient of the weights; that of the images nobody asks for
    assert work.flops == 2 * (2 * 12 * 5)
    assert work.bytes > 4 * (12 + 5), "each image and its logits at least once"


def test_shares_are_those_of_the_measured_limits():
    said = shares(100.0, Work(flops=10**10, bytes=4 * 10**8), Limits(flops=4e12, bytes=1e11))
    assert "100 images/s of 10 GFLOP are 1 TFLOP/s, 25% of " in said
    assert "200 MB an image in 16 bits, 20 GB/s, 20% of a copy's (100)" in said


def test_limits_of_this_processor_are_measured(monkeypatch):
    # small, because kernels without native bfloat16 take a minute for the whole
    monkeypatch.setitem(module._SIDE, "cpu", 256)
    limits = measure_limits("cpu")
    assert limits.flops > 1e8
    assert limits.bytes > 1e8


@pytest.mark.gpu
def test_limits_of_a_gpu_are_measured():
    limits = measure_limits("cuda")
    assert limits.flops > 1e12
    assert limits.bytes > 1e10

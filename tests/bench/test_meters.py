"""What a block cost, as its gauge says it."""

import importlib.util

import pytest

from runner.bench.meters import CudaMeter, HostMeter, _energy_meter, meter_for


def test_the_clocks_of_the_process():
    gauge = meter_for("cpu")
    assert isinstance(gauge, HostMeter)
    gauge.begin()
    sum(range(100_000))
    found = gauge.end()
    assert found.keys() == {"seconds", "cpu_seconds"}
    assert found["seconds"] > 0
    assert found["cpu_seconds"] > 0


def test_without_the_library_no_energy_is_read(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert _energy_meter(None) is None


@pytest.mark.gpu
def test_events_cover_what_the_gpu_did_and_the_counter_moves():
    import torch

    gauge = meter_for("cuda")
    assert isinstance(gauge, CudaMeter)
    left = torch.ones(4096, 4096, device="cuda")
    gauge.begin()
    for _ in range(400):
        left @ left
    found = gauge.end()
    assert found["seconds"] > 0.05, "400 products of 137 GFLOP, which no GPU does in less"
    assert found.get("joules", 1.0) > 0
    assert gauge.peak_bytes() >= 2 * left.nbytes

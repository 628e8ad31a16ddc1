"""A 16-bit type that the hardware does not compute in: said in the run's notes, whoever chose it but a measurement."""

import dataclasses

import pytest

from runner.data.open import open_data
from runner.planning.build import build_plan
from runner.planning.device import detect_device


@pytest.mark.parametrize(
    ("overrides", "bf16", "told"),
    [
        (("precision=bf16",), False, True),
        (("precision=bf16",), True, False),
        (("trainer=mixed_precision",), False, True),
        (("precision=fp32",), False, False),
        (("precision=auto", "deterministic=true"), False, False),
    ],
)
def test_it_is_said_where_it_is_not_native(configure, overrides, bf16, told):
    config = configure("data.limit=32", "hardware=cpu", *overrides)
    device = detect_device(config.hardware)
    device = dataclasses.replace(device, name="chip", native=dataclasses.replace(device.native, bf16=bf16))
    notes = build_plan(config, open_data(config.data), device, processes=1).notes
    assert any(note.startswith("chip has no native bfloat16: ") for note in notes) == told

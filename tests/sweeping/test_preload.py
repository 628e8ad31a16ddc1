"""What a sweep imports once for all its cells."""

import importlib.util

import pytest

from runner.sweeping.preload import slow_modules

PLAIN = ("tracker=none",)
PRIVATE = ("dp_accounting.pld.privacy_loss_distribution", "runner.training.gradients.private_parts")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), ()),
        (("model=resnet18",), ("torch._dynamo", "torchvision")),
        (("hardware.compile=true",), ("torch._dynamo",)),
        (("trainer=dp",), PRIVATE),
        (("tracker=wandb",), ("runner.records.wandb_sink", "wandb")),
    ],
    ids=["plain", "torchvision", "compiled", "private", "wandb"],
)
def test_slow_libraries_are_imported_for_those_who_need_them(configure, overrides, expected):
    assert sorted(slow_modules([configure(*PLAIN), configure(*PLAIN, *overrides)])) == sorted(expected)
    for name in expected:
        assert importlib.util.find_spec(name)

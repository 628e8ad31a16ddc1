"""What a sweep imports once for all its cells."""

import pytest

from runner.sweeping.preload import slow_modules


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), ()),
        (("model=resnet18",), ("torch._dynamo", "torchvision")),
        (("trainer=dp", "privacy.grad_sample=ghost"), ()),
        (("trainer=dp", "privacy.grad_sample=functional"), ("torch._dynamo",)),
    ],
    ids=["plain", "torchvision", "ghost", "functional"],
)
def test_slow_libraries_are_imported_for_those_who_need_them(configure, overrides, expected):
    assert slow_modules([configure(), configure(*overrides)]) == expected

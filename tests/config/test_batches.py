"""How an update is split over what goes through the model at once, and what a ``hardware`` option says about it."""

import pytest

from runner.config.rules.batches import split_batch
from runner.config.rules.ranges import read_bytes
from runner.errors import RequestError

PRESETS = ("laptop_4gb", "laptop_8gb", "v100", "a100", "h100")


def split(config, processes=1):
    found = split_batch(config, processes)
    assert found.batch_size * found.accumulation * processes == found.logical
    return found.logical, found.batch_size, found.accumulation


@pytest.mark.parametrize(
    ("words", "processes", "expected"),
    [
        ("", 1, (64, 64, 1)),
        ("data.batch_size=8 trainer.accumulation_steps=4", 2, (64, 8, 4)),
        ("data.batch_size=8 trainer.effective_batch_size=96", 3, (96, 8, 4)),
        ("data.batch_size=auto trainer.effective_batch_size=96", 1, (96, 48, 2)),
        # a preset splits what the recipe says, and nothing that is typed
        ("hardware=laptop_4gb", 1, (64, 16, 4)),
        ("hardware=laptop_4gb data.batch_size=64", 1, (64, 64, 1)),
        ("hardware=laptop_4gb data.batch_size=64 hardware.micro_batch=8", 1, (64, 8, 8)),
        ("hardware=laptop_4gb trainer.effective_batch_size=128", 1, (128, 16, 8)),
    ],
)
def test_the_product_is_what_the_recipe_says(configure, words, processes, expected):
    assert split(configure(*words.split()), processes) == expected


def test_processes_that_do_not_divide_the_effective_batch_are_refused(configure):
    with pytest.raises(RequestError, match="a multiple of the 3 processes"):
        split_batch(configure("trainer.effective_batch_size=64"), 3)


def test_a_typed_batch_is_held_against_the_micro_batch_of_an_experiment(configure):
    """The key that is named is the one that was typed, with what to type beside it."""
    with pytest.raises(RequestError) as refused:
        split_batch(configure("experiment=dp_digits", "trainer.effective_batch_size=500"), 1)
    expected = "a multiple of data.batch_size=719, or beside it data.batch_size=500, which divides it, or"
    assert str(refused.value).startswith(f"trainer.effective_batch_size: got 500, expected {expected}")
    split_batch(configure("experiment=dp_digits", "trainer.effective_batch_size=500", "data.batch_size=500"), 1)
    split_batch(configure("experiment=dp_digits", "trainer.effective_batch_size=1438"), 1)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_precision_batch_and_memory_and_what_is_typed_wins(configure, preset):
    config = configure(f"hardware={preset}")
    assert config.hardware.micro_batch
    assert read_bytes(config.hardware.memory_limit) >= 4 * 10**9
    assert config.precision.amp_dtype != configure().precision.amp_dtype
    typed = configure("precision=fp32", f"hardware={preset}", "hardware.memory_limit=1GiB")
    assert typed.precision.amp_dtype == configure("precision=fp32").precision.amp_dtype
    assert typed.hardware.memory_limit == "1GiB"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GiB", 4 * 2**30), ("1.5 GB", 1_500_000_000), ("512MB", 512_000_000), ("1024", 1024), ("GiB", 0), ("-1GB", 0)],
)
def test_sizes_are_read_with_their_units(text, expected):
    assert read_bytes(text) == expected

"""``data.batch_size=auto`` finds the largest micro-batch that fits, and changes no number."""

import itertools
import json

import pytest
import torch

from runner.autotune.batch_size import fitting_batch, largest, memory_limit
from runner.autotune.peak_memory import PeakMemory
from runner.autotune.rehearsal import one_share
from runner.config.rules.batches import divisors
from runner.data.open import open_data
from runner.errors import RequestError, RunError
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.records.environment import peak_memory_bytes, reset_peak_memory
from runner.training.run_data import resolved_data_config

RECIPE = (
    "hardware=cpu", "hardware.threads=1", "data.limit=200", "data.image_size=40", "model=small_cnn",
    "model.norm=group", "scheduler=constant", "trainer.steps=1",
)  # fmt: skip
PATIENT = "hardware.probe_seconds=600"
"""However busy the machine is, what is measured does not run out of time."""
AUTO = (*RECIPE, "data.batch_size=auto", "trainer.effective_batch_size=128", PATIENT)


@pytest.fixture(scope="module")
def measuring():
    """The processes that measure memory, of which one start serves all tests on the same data."""
    started = {}

    class Shared(PeakMemory):
        def __exit__(self, *_):
            pass

    def shared(device, data, *, tracker=None):
        return started.setdefault((device, str(data), tracker), Shared(device, data, tracker=tracker))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runner.autotune.batch_size.PeakMemory", shared)
        yield shared
    for memory in started.values():
        PeakMemory.__exit__(memory, None, None, None)


@pytest.mark.parametrize("share", [1, 2, 97, 96, 512, 720])
def test_the_search_finds_what_trying_everything_finds_and_goes_little_beyond(share):
    sizes = divisors(share)
    for limit in (0, *sizes, share + 1):
        tried = []

        def fits(size, limit=limit, tried=tried):
            tried.append(size)
            return size <= limit

        assert largest(sizes, fits) == max((size for size in sizes if size <= limit), default=None)
        assert len(tried) == len(set(tried))
        beyond = [(below, size) for below, size in itertools.pairwise(sizes) if size in tried and size > limit]
        assert all(size <= 2 * limit or below <= limit for below, size in beyond)


def test_memory_decides_and_numbers_do_not_change(train, configure, measuring):
    """Group norm, because BatchNorm would take its statistics over other examples."""
    config = configure(*AUTO)
    device = detect_device(config.hardware)
    plan = build_plan(config, open_data(config.data), device, processes=1)
    memory = measuring("cpu", resolved_data_config(config, plan.semantic.data))
    least, most = (memory.of(one_share(plan, size, 1)) for size in (1, 128))
    assert 0 < least < most
    reset_peak_memory(torch.device("cpu"))
    limit = f"hardware.memory_limit={peak_memory_bytes(torch.device('cpu')) + (least + most) // 2}"

    ran = train(*AUTO, limit)
    auto = json.loads((ran / "run.json").read_text())
    performance = auto["plan"]["performance"]
    found = performance["batch_size"]
    assert 1 < found < 128
    assert performance["accumulation_steps"] == 128 // found
    assert f"{found} take" in performance["batch_reason"]
    fixed = train(*RECIPE, "data.batch_size=64", "trainer.accumulation_steps=2")
    asked = json.loads((fixed / "run.json").read_text())
    assert auto["plan"]["identity"] == asked["plan"]["identity"]
    for key, value in asked["metrics"].items():
        assert auto["metrics"][key] == pytest.approx(value, rel=1e-4)
    # what a run was begun with stays, whatever would fit by now
    (ran / "run.json").write_text(json.dumps(auto | {"status": "running"}))
    train(*AUTO, "hardware.memory_limit=64GiB", run_dir=ran)
    assert json.loads((ran / "run.json").read_text())["plan"]["performance"]["batch_size"] == found

    config.hardware.memory_limit = "1MiB"
    with pytest.raises(RequestError, match="at least"):
        fitting_batch(plan, config, device)


def test_a_micro_batch_that_batchnorm_cannot_use_is_passed_over(configure, train):
    """A residual net brings 8 x 8 pixels down to one, where a single example has no statistics."""
    candidate = ("model=resnet18", "data.limit=24", "trainer.epochs=1", "hardware=cpu", "hardware.threads=1")
    auto = (*candidate, "data.batch_size=auto", "trainer.effective_batch_size=4", PATIENT)
    config = configure(*auto, "hardware.memory_limit=64TB")
    device = detect_device(config.hardware)
    assert memory_limit(config.hardware, device, 2) == memory_limit(configure(*auto).hardware, device, 2) < 64e12
    plan = build_plan(config, open_data(config.data), device, processes=1)
    size = fitting_batch(plan, config, device)
    assert (size.value, size.source) == (4, "measurement")
    assert "GiB (hardware.memory_limit=64TB is more than a process may take here), measured" in size.reason
    assert ": 2 take" in size.reason
    with pytest.raises(RunError, match=r"too small for BatchNorm; try model\.norm=group"):
        train(*candidate, "data.batch_size=1")

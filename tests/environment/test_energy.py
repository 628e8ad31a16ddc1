"""Joules from made-up files of RAPL and a made-up NVML: what they count, and what is said where nothing counts."""

import json
import sys
from types import SimpleNamespace

import pytest

from runner.config.schema import ComparisonConfig
from runner.environment import energy
from runner.environment.energy import EnergyMeters, has_meter, joules_of_all
from runner.errors import RunError
from runner.report.cells import read_sweep
from runner.report.findings import find
from runner.training.energy_account import EnergyAccount
from runner.training.loop import Loop
from tests.report.sweep_folders import write_sweep


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """set(joules of package 0, of package 1): what the files say; each begins anew at 100 J."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    for folder, name in {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:1": "package-1",
                         "intel-rapl:2": "psys", "intel-rapl-mmio:0": "package-0"}.items():  # fmt: skip
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "name").write_text(f"{name}\n")
        (tmp_path / folder / "max_energy_range_uj").write_text("100000000\n")
        (tmp_path / folder / "energy_uj").write_text("5000000\n")

    def put(*joules):
        for number, value in enumerate(joules):
            (tmp_path / f"intel-rapl:{number}" / "energy_uj").write_text(f"{round(value * 1e6)}\n")

    return put


@pytest.fixture
def nvml(monkeypatch):
    """A library with one GPU, whose counter stands at ``.joules``."""

    class NVMLError(Exception):
        pass

    library = SimpleNamespace(joules=7.0, NVMLError=NVMLError, nvmlInit=lambda: None)

    def handle(uuid):
        if uuid != b"GPU-a1":
            raise NVMLError
        return "handle"

    library.nvmlDeviceGetHandleByUUID = handle
    library.nvmlDeviceGetTotalEnergyConsumption = lambda _: round(library.joules * 1000)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


def test_whole_processors_are_counted_across_the_end_of_their_counters(packages):
    packages(90, 10)
    meters = EnergyMeters()
    packages(98, 30)
    meters.update()
    packages(4, 31)
    assert sorted(round(joules, 6) for joules in meters.joules().values()) == [14, 21]
    assert has_meter()


def test_a_gpu_is_found_by_its_name_and_counted_in_joules(packages, nvml):
    packages(1, 1)
    meters = EnergyMeters("a1")
    nvml.joules += 12.5
    assert meters.joules()["GPU-a1"] == 12.5
    assert "GPU-b2" not in EnergyMeters("b2").joules(), "a device without a counter"


def test_a_meter_that_two_processes_read_counts_once():
    found = joules_of_all([{"host package-0": 10.0, "GPU-a": 3.0}, {"host package-0": 11.0, "GPU-b": 4.0}])
    assert found == {"host package-0": 11.0, "GPU-a": 3.0, "GPU-b": 4.0}


def test_files_that_may_not_be_read_are_no_meter(packages, tmp_path, monkeypatch):
    for folder in tmp_path.glob("intel-rapl:*"):
        (folder / "energy_uj").unlink()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert EnergyMeters().joules() == {}
    assert not has_meter()


def test_a_run_records_it_and_one_that_is_resumed_adds_it_up(train, packages, tmp_path, monkeypatch):
    recipe = ("data.limit=60", "model=linear", "trainer.epochs=3", "data.batch_size=20", "trainer.save_every=1")
    readings, counted = iter(range(10, 100)), EnergyAccount.update
    monkeypatch.setattr(EnergyAccount, "update", lambda self: (packages(next(readings), 10), counted(self))[1])
    whole = json.loads((train(*recipe) / "run.json").read_text())["energy"]
    assert whole["joules"] == sum(whole["meters"].values()) > 0
    assert {name.split()[-1] for name in whole["meters"]} == {"package-0", "package-1"}

    def end_epoch(self, step, usual=Loop._end_epoch):
        ended = usual(self, step)
        if self._first == 0 and step >= 3:
            raise RunError("cut")
        return ended

    run = tmp_path / "cut"
    run.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_end_epoch", end_epoch)
        with pytest.raises(RunError, match="cut"):
            train(*recipe, run_dir=run)
    first = next(readings)
    monkeypatch.setattr(EnergyAccount, "update", lambda self: (packages(first + 50, 10), counted(self))[1])
    packages(first, 10)
    resumed = json.loads((train(*recipe, run_dir=run) / "run.json").read_text())["energy"]
    assert resumed["joules"] > 50, "the earlier session's beside this one's 50"


def test_without_a_meter_a_run_has_none(train, tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "none")
    run = json.loads((train("data.limit=60", "model=linear", "trainer.steps=2") / "run.json").read_text())
    assert run["energy"] == {"joules": None, "meters": {}}


@pytest.mark.parametrize(
    ("joules", "words"),
    [
        ((20, 10), "Use bf16: 50% less energy"),
        ((None, None), "So far fp32 leads: no run has measured joules (no meter was found: NVML counts"),
    ],
)
def test_the_recipe_of_the_least_energy_is_recommended_where_it_is_known(tmp_path, joules, words):
    cells = [
        (
            f"precision={name} seed={seed}",
            0.97 + 0.0001 * (seed % 3),
            {"seconds": 10, "joules": spent and spent * (1 + seed / 100)},
        )
        for name, spent in zip(("fp32", "bf16"), joules, strict=True)
        for seed in range(6)
    ]
    wanted = ComparisonConfig(margin=2.0, decision="joules")
    assert words in find(read_sweep(write_sweep(tmp_path, cells)), wanted).verdict

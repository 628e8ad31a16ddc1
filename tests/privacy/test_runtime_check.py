"""What no test before a run could see is found while it goes on, and its epsilon is void."""

import contextlib
import functools
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.errors import EpsilonVoid
from runner.execution.job import run_job
from runner.privacy.example_gradients.grad_sample import per_example_gradients
from runner.privacy.independence import batch_probe, runtime_check
from runner.privacy.independence.runtime_check import RuntimeMixingCheck, SixteenBits
from runner.privacy.ledger.ledger import Ledger, contents_of, ledger_folder, read_entries
from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.random_layers import LayerKeys, draw_by_example
from runner.records.run_file import read_run
from runner.training.checkpointing.checkpoint import load_checkpoint, saved_steps
from tests.privacy.mixing_models import IN_SIXTEEN_BITS, MIXING, NOT_VECTORISED, examples, model_with

KEY = SecretKey.from_unsafe_seed(1)


def watched(model, way="ghost", looks=1, size=12, **settings):
    """The fault that ``looks`` micro-batches show."""
    images, labels = examples(size, 0, 1)
    model.train()
    watch = RuntimeMixingCheck(model, KEY, **settings)
    gradients = per_example_gradients(way, model, loss=loss, forward=contextlib.nullcontext)
    keys = LayerKeys.of(model)
    with contextlib.nullcontext() if keys is None else keys.during(torch.arange(size)):
        for _ in range(looks):
            watch.check(gradients, images, labels)
    return watch


def loss(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


@pytest.mark.parametrize("way", ["ghost", "hooks", "functional"])
def test_an_honest_model_is_never_at_fault(monkeypatch, way):
    monkeypatch.setattr(runtime_check, "SHARE", 1.0)
    model = model_with(nn.Sequential(nn.Dropout(0.3), nn.LayerNorm(16)))
    draw_by_example(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    watch = watched(model, way, looks=4)
    assert watch.fault is None
    assert watch.kept() is None
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert watched(model, way, size=1).fault is None


# not those that act on few images or places, late or on others than these
@pytest.mark.parametrize(
    "name", [*sorted(set(MIXING) - NOT_VECTORISED - {"BranchOnMaximum", "WhereBright", "OnTheClass", "FifthPlace"})]
)
def test_a_micro_batch_shows_what_mixes_or_remembers(name):
    watch = watched(model_with(MIXING[name]()))
    assert watch.fault is not None


@pytest.mark.parametrize("kind", IN_SIXTEEN_BITS)
def test_the_first_micro_batch_shows_what_is_done_in_sixteen_bits_alone(monkeypatch, kind):
    """As a run does it whose own batch is larger than any that was tried before."""

    def fault():
        forward, model = functools.partial(torch.autocast, "cpu", torch.bfloat16), model_with(kind()).train()
        images, labels = examples(12, 0, 1)
        run, plain = (
            per_example_gradients("ghost", model, loss=loss, forward=each) for each in (forward, contextlib.nullcontext)
        )
        watch = RuntimeMixingCheck(model, KEY, sixteen_bits=SixteenBits(forward, loss, plain, batched=True))
        watch.check(run, images, labels)
        return watch.fault

    assert fault().startswith("the operations in 16 bits are others than in float32 (from ")
    monkeypatch.setattr(runtime_check, "other_operation", lambda *_: None)
    assert fault() is None


@pytest.mark.parametrize("way", ["ghost", "functional"])
def test_an_honest_run_in_sixteen_bits_is_not_at_fault(configure, tmp_path, way):
    config = configure(*RECIPE, f"privacy.grad_sample={way}", "precision=bf16", "trainer.steps=2", "model=small_cnn")
    (tmp_path / "run").mkdir()
    run_job(config, {}, tmp_path / "run", None)
    assert read_run(tmp_path / "run").status == "completed"


def test_it_looks_at_the_first_and_then_at_few_that_the_key_chooses(monkeypatch):
    looked = []

    class Counting(RuntimeMixingCheck):
        def _found(self, *arguments, **settings):
            looked.append(self._calls)

    def moments(key):
        looked.clear()
        watch = Counting(nn.Linear(2, 2), key)
        for _ in range(20_000):
            watch.check(None, None, None)
        return list(looked)

    ours = moments(KEY)
    assert ours[0] == 1
    # five standard deviations of a binomial number of mean 50
    assert abs(len(ours) - 51) <= 35
    assert moments(KEY) == ours
    assert moments(SecretKey.from_unsafe_seed(2)) != ours


RECIPE = ("trainer=dp", "data.limit=200", "data.batch_size=32", "trainer.accumulation_steps=1", "hardware=cpu",
          "hardware.threads=1", "privacy.grad_sample=ghost", "tracker=none", "trainer.log_every=1")  # fmt: skip


LARGE = ("data.batch_size=64",)
"""So that a batch, which is drawn, has fewer than the ``FROM`` examples of ``late_meeting`` once in 1e11 runs."""


def late(configure, tmp_path, kind, *overrides):
    """Run a network of ``tests.privacy.late_meeting``; returns what ended it, and its folder."""
    config = configure(*RECIPE, *overrides)
    config.model.target, config.model.options = "tests.privacy.late_meeting.build", {"kind": kind}
    run_dir = tmp_path / "run"
    run_dir.mkdir(exist_ok=True)
    try:
        run_job(config, {}, run_dir, None)
    except EpsilonVoid as error:
        return str(error), run_dir, config
    return None, run_dir, config


@pytest.fixture(autouse=True)
def _targets(monkeypatch):
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "tests.privacy.late_meeting")


def test_a_run_ends_before_it_releases_what_was_found_at_its_own_batch_size(configure, tmp_path, monkeypatch):
    # as in a model so large that no such batch is tried before the run
    monkeypatch.setattr(batch_probe, "_WORK", 0.0)
    fault, run_dir, config = late(configure, tmp_path, "InLargeBatches", "trainer.steps=5", *LARGE)
    assert fault.startswith("what examples add to the clipped sum depends on their companions: no epsilon holds")
    assert "privacy.grad_sample=functional" in fault
    record = json.loads((run_dir / "run.json").read_text())
    assert (record["status"], record["void"]) == ("failed", fault)
    assert read_run(run_dir).privacy is None
    ledger = Ledger(ledger_folder(config.privacy.ledger_dir), contents_of(record["plan"]["semantic"]["data"]["origin"]))
    [entry] = _entries(ledger)
    assert entry.void == fault
    assert not list((run_dir / "checkpoints").glob("step_*"))


def _entries(ledger):
    return read_entries(ledger._chain.read()[0])


def test_the_control_without_the_watch_it_goes_on(configure, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_probe, "_WORK", 0.0)
    monkeypatch.setattr(RuntimeMixingCheck, "check", lambda *arguments: None)
    fault, run_dir, _ = late(configure, tmp_path, "InLargeBatches", "trainer.steps=5", *LARGE)
    assert fault is None
    assert json.loads((run_dir / "run.json").read_text())["status"] == "completed"


def test_what_begins_late_is_found_at_a_later_look(configure, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime_check, "SHARE", 0.2)
    fault, run_dir, _ = late(configure, tmp_path, "AfterManyCalls", "trainer.steps=120")
    assert fault.startswith("what examples add to the clipped sum depends on their companions")
    assert json.loads((run_dir / "run.json").read_text())["void"] == fault


def test_a_buffer_that_changes_late_is_seen_before_it_is_saved(configure, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime_check, "SHARE", 0.0)
    fault, run_dir, _ = late(configure, tmp_path, "RemembersLate", "trainer.steps=80", "trainer.save_every=100")
    assert fault.startswith("the forward pass has changed the buffer average of RemembersLate: no epsilon holds")
    saved = [load_checkpoint(path).weights["average"] for path in saved_steps(run_dir / "checkpoints")]
    assert saved
    assert not any(average.any() for average in saved)

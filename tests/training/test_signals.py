"""A watched signal ends a run with exit code 75 wherever it comes, and the same request goes on from there."""

import json
import os
import signal

import pytest

from runner.errors import ExitCode
from runner.execution.final_record import final_record
from runner.execution.job import run_job
from runner.processes.signals import StopRequest
from runner.training.checkpointing.checkpoint import load_checkpoint
from tests.faults.final_state import differences, final_state

RECIPE = ("tracker=none", "data.limit=48", "data.batch_size=8", "trainer.epochs=3", "hardware=cpu",
          "hardware.threads=1", "trainer.save_every=1")  # fmt: skip


@pytest.fixture(autouse=True)
def usual_hangup():
    """That of a program on a terminal: ``nohup`` has what it starts ignore SIGHUP, and a run leaves that so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def run(configure, tmp_path, monkeypatch):
    """run("key=value", ..., call=3) trains the model of ``tests.faults.signalling``; its exit code and ``run.json``."""
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "tests.faults")

    def run(*overrides, folder="run", **signalling):
        config = configure(*RECIPE, *overrides)
        config.model.target, config.model.options = "tests.faults.signalling.build", signalling
        run_dir = tmp_path / folder
        run_dir.mkdir(exist_ok=True)
        code = run_job(config, {}, run_dir, None).exit_code
        return code, json.loads((run_dir / "run.json").read_text())

    return run


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGXCPU"])
def test_the_step_is_finished_and_saved(run, tmp_path, name):
    before = signal.getsignal(signal.Signals[name])
    code, record = run(sends=name, call=4)
    assert (code, record["status"], record["steps"]) == (ExitCode.INTERRUPTED, "interrupted", 4)
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last").step == 4
    assert signal.getsignal(signal.Signals[name]) == before


def test_one_process_of_two_is_asked_and_both_stop_at_the_next_step(run):
    code, record = run(
        "trainer=accelerate", "hardware.processes=2", "data.batch_size=4", sends="SIGUSR2", call=4, rank=1
    )
    assert (code, record["status"]) == (ExitCode.INTERRUPTED, "interrupted")
    assert record["steps"] in (4, 5)


@pytest.mark.parametrize(
    ("numbers", "insists"),
    [
        (("SIGTERM", "SIGTERM"), True),
        (("SIGINT", "SIGTERM"), True),
        # a warning, and what comes when the time is over
        (("SIGUSR2", "SIGTERM"), False),
        (("SIGXCPU", "SIGXCPU", "SIGXCPU"), False),
        # a scheduler that tells every process, and the one that passes it on
        (("SIGTERM", "SIGUSR1"), False),
        (("SIGHUP", "SIGHUP"), False),
    ],
)
def test_who_asks_twice_insists_and_who_warns_does_not(monkeypatch, numbers, insists):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with StopRequest(alone=True) as stop, stop.polled():
        for name in numbers:
            signal.raise_signal(signal.Signals[name])
    assert ended == ([128 + signal.Signals[numbers[-1]]] if insists else [])
    assert stop.pending == signal.Signals[numbers[0]]


def test_nohup_stays_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest(alone=True) as stop:
            signal.raise_signal(signal.SIGHUP)
        assert stop.pending is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_once_it_is_done_it_is_put_down(run, monkeypatch):
    def ends(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return final_record(*arguments, **options)

    monkeypatch.setattr("runner.execution.job.final_record", ends)
    code, record = run()
    assert (code, record["status"]) == (ExitCode.DONE, "completed")


@pytest.mark.parametrize("place", ["runner.execution.job.open_run_data", "runner.records.recorder.Recorder.start"])
def test_before_the_first_step_nothing_is_lost_and_nothing_has_failed(run, tmp_path, monkeypatch, place):
    run(folder="whole")

    def interrupt(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(place, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["error"]) == ("interrupted", None)
    code, record = run()
    assert (code, record["status"]) == (ExitCode.DONE, "completed")
    assert not differences(final_state(tmp_path / "run"), final_state(tmp_path / "whole"))

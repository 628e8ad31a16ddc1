"""Processes that share no disk, and find other data, code or folders than the first: one run, or one refusal of all."""

import contextlib
import dataclasses

import pytest

from runner.autotune import resolve
from runner.errors import ExitCode, RequestError, RunError
from runner.execution import job as job_module
from runner.execution.job import Job
from runner.planning.device import detect_device
from runner.records.console import SilentConsole
from runner.training.distributed import same_run
from runner.training.distributed.agreement import (
    decide_on_main,
    main_process_first,
    on_all_processes,
    on_main_process,
    raised_on_all,
)
from tests.faults.final_state import differences, final_state
from tests.training.taking_turns import Stop, TimedSteps

RECIPE = ("tracker=none", "trainer=accelerate", "data.limit=32", "data.batch_size=4", "trainer.epochs=2", "model=mlp",
          "hardware=cpu", "hardware.threads=1", "trainer.save_every=1", "optimizer.momentum=0.9")  # fmt: skip


@pytest.fixture
def run(configure, tmp_path, monkeypatch):
    """run(stop_after=, elsewhere=) trains on two nodes; the second finds the folder of the run at ``elsewhere``."""
    # switches of the process, which the two share here
    monkeypatch.setattr("runner.execution.job.torch_settings", lambda plan: contextlib.nullcontext())

    def run(*overrides, folder="run", stop_after=None, elsewhere="nowhere", second=()):
        ours, theirs = configure(*RECIPE, *overrides), configure(*RECIPE, *overrides, *second)
        run_dir = tmp_path / folder
        run_dir.mkdir(exist_ok=True)
        device = detect_device(ours.hardware)

        def process(world):
            own = Job(config=ours, composed={}, run_dir=run_dir)
            if not world.is_main:
                own = dataclasses.replace(own, config=theirs, run_dir=tmp_path / elsewhere)
            return job_module._run_in_process(own, world, device, Stop(stop_after), SilentConsole())

        return TimedSteps(2).call(process)

    return run


def differs(run, whole):
    """What differs besides the checkpoints that are kept."""
    found = differences(final_state(run), final_state(whole))
    return [path for path in found if not path.startswith("files")]


def codes(ended):
    return [getattr(result, "exit_code", result) for result in ended]


def test_a_run_goes_on_where_the_second_node_finds_no_checkpoint(run, tmp_path):
    assert codes(run(folder="whole")) == [ExitCode.DONE] * 2
    assert codes(run(stop_after=5)) == [ExitCode.INTERRUPTED] * 2
    assert codes(run()) == [ExitCode.DONE] * 2
    assert not differs(tmp_path / "run", tmp_path / "whole")
    assert not (tmp_path / "nowhere").exists()


def test_a_finished_run_ends_at_once_on_both(run, tmp_path):
    run()
    before = (tmp_path / "run" / "run.json").read_bytes()
    assert codes(run()) == [ExitCode.DONE] * 2
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def looking_for_themselves(monkeypatch):
    """As if each process looked in the folders that it sees itself."""
    for module in (job_module, resolve):
        monkeypatch.setattr(module, "decide_on_main", lambda world, decide: on_all_processes(world, decide))


def test_processes_that_look_for_themselves_are_refused(run, monkeypatch):
    run(stop_after=5)
    looking_for_themselves(monkeypatch)
    ended = run()
    assert all(isinstance(error, RequestError) for error in ended)
    assert str(ended[0]).startswith("first step: got 0 in process 1 on ")
    assert str(ended[0]) == str(ended[1])


def test_without_the_comparison_two_models_are_trained_into_one(run, monkeypatch, tmp_path):
    run(folder="whole")
    run(stop_after=5)
    looking_for_themselves(monkeypatch)
    monkeypatch.setattr(same_run, "refuse_differences", lambda world, facts: None)
    ended = run()
    broken = any(isinstance(error, Exception) for error in ended)
    assert broken or differs(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(
    ("second", "key"),
    [
        (("data.split_seed=1",), "data: got images of fingerprint "),
        (("optimizer.lr=0.01",), "optimizer.lr: got 0.01 in process 1 on "),
        (("trainer.epochs=4",), "trainer.epochs: got 16 in process 1 on "),
        (("data.eval_batch_size=3",), "hardware.eval_batch_size: got 3 in process 1 on "),
    ],
)
def test_another_recipe_or_other_data_are_refused_by_both(run, tmp_path, second, key):
    ended = run(second=second)
    assert all(isinstance(error, RequestError) and raised_on_all(error) for error in ended)
    assert str(ended[0]).startswith(key)
    assert "as in process 0 on " in str(ended[0])
    assert not list((tmp_path / "run").iterdir()), "nothing was begun"


def test_data_that_one_node_does_not_have_are_refused_by_both(run, tmp_path):
    (tmp_path / "not here").mkdir()
    ended = run(second=("data=image_folder", f"data.root={tmp_path / 'not here'}"))
    assert all(isinstance(error, RequestError) and raised_on_all(error) for error in ended)
    assert " in process 1 on " in str(ended[0])
    assert " in process " not in str(ended[1])
    assert ended[0].key == ended[1].key == "data.root"


def test_other_code_and_other_weights_are_refused(run, monkeypatch):
    digests = iter(("a1", "b2"))
    with monkeypatch.context() as patch:
        patch.setattr(same_run, "_digest", lambda place: next(digests) if place.is_dir() else "c3")
        assert str(run()[0]).startswith("recipe-runner: got code b2 in process 1 on ")
    digests = iter(("a1", "b2"))
    monkeypatch.setattr(same_run, "_digest_of_weights", lambda model: next(digests))
    assert str(run()[0]).startswith("weights: got b2 in process 1 on ")


@pytest.mark.parametrize("error", [RequestError("a", "b", "c"), RunError("broken"), OSError("broken")])
@pytest.mark.parametrize("rank", [0, 1])
def test_where_one_is_refused_all_are(rank, error):
    def refused(world):
        if world.rank == rank:
            raise error

    def ended(how):
        return TimedSteps(2).call(lambda world: how(world, lambda: refused(world)))

    kinds = (RequestError,) if isinstance(error, RequestError) else (RunError, OSError)
    for how in (on_all_processes, main_process_first):
        found = ended(how)
        assert found[rank] is error
        assert all(isinstance(each, kinds) and raised_on_all(each) for each in found)
    for how in (on_main_process, decide_on_main):
        found = ended(how)
        assert all(isinstance(each, kinds) for each in found) if rank == 0 else found == [None, None]


def test_the_first_acts_before_the_others():
    order = []
    TimedSteps(3).call(lambda world: main_process_first(world, lambda: order.append(world.rank)))
    assert order == [0, 1, 2]
    assert TimedSteps(2).call(lambda world: decide_on_main(world, lambda: world.rank)) == [0, 0]

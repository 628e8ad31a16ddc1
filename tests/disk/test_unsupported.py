"""File systems without locks, links or ``fsync`` of folders: runs work there with what is left, and say so."""

import errno
import fcntl
import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest
import torch

from runner.disk import unsupported
from runner.disk.files import sync_handle
from runner.disk.lock import acquire, locked, release
from runner.errors import ExitCode, RequestError
from runner.execution import job as job_module
from runner.execution.job import Job, run_job
from runner.planning.device import detect_device
from runner.privacy.ledger.chain import Chain
from runner.records.console import SilentConsole
from runner.records.run_lock import lock_run
from runner.training.checkpointing.checkpoint import find_saved
from runner.training.distributed.world import SingleProcess
from tests.faults.final_state import differences, final_state
from tests.training.taking_turns import Stop

RECIPE = ("tracker=none", "model=linear", "data.limit=32", "data.batch_size=8", "trainer.epochs=3", "hardware=cpu",
          "hardware.threads=1", "trainer.save_every=1")  # fmt: skip


@pytest.fixture
def poor(monkeypatch):
    """poor(errno) -> from now on no locks, no links and no ``fsync`` of folders, each refused with that error."""
    monkeypatch.setattr(unsupported, "_warned", [])
    real = os.fsync

    def poor(number):
        def refuse(*arguments, **options):
            raise OSError(number, os.strerror(number))

        def fsync(handle):
            return refuse() if stat.S_ISDIR(os.fstat(handle).st_mode) else real(handle)

        monkeypatch.setattr(fcntl, "flock", refuse)
        monkeypatch.setattr(os, "symlink", refuse)
        monkeypatch.setattr(os, "fsync", fsync)

    return poor


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ENOLCK])
def test_locks_hold_processes_apart(poor, tmp_path, number):
    poor(number)
    with lock_run(tmp_path):
        with pytest.raises(RequestError, match="no other run is working in"), lock_run(tmp_path):
            pass
        _elsewhere(_is_refused, tmp_path)
    assert not list(tmp_path.iterdir())
    with lock_run(tmp_path):
        pass
    assert len(unsupported.warned()) == 1
    assert "no locks" in unsupported.warned()[0]


@pytest.mark.parametrize("exchanges", [True, False])
def test_what_a_killed_owner_has_left_does_not_count(poor, tmp_path, monkeypatch, exchanges):
    """Nor on NFS and FUSE, which do not exchange two names in one step."""
    poor(errno.ENOSYS)
    if not exchanges:
        monkeypatch.setattr("filelock._soft.exchange_names", lambda *names: False)
    _elsewhere(_dies, tmp_path / "lock", code=7)
    assert (tmp_path / ".lock.held").exists()
    held = acquire(tmp_path / "lock")
    release(tmp_path / "lock", held)
    assert not list(tmp_path.iterdir())


def test_what_an_owner_elsewhere_has_left_counts(poor, tmp_path, monkeypatch):
    poor(errno.ENOSYS)
    monkeypatch.setattr("filelock._soft.exchange_names", lambda *names: False)
    _elsewhere(_dies, tmp_path / ".lock", code=7)
    left = tmp_path / ".lock.held"
    process, host, *rest = left.read_text().splitlines()
    for owner in ((process, f"{host}-other", *rest), (str(os.getppid()), host), ("half",)):
        left.write_text("\n".join(owner))
        with pytest.raises(RequestError, match=r"\(.*\.lock\.held stands for the lock of another process\)"):
            lock_run(tmp_path).__enter__()
        assert left.read_text() == "\n".join(owner)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".lock.held"]


def test_who_waits_takes_the_lock_of_who_was_killed(poor, tmp_path, monkeypatch):
    poor(errno.ENOSYS)
    monkeypatch.setattr("filelock._soft.exchange_names", lambda *names: False)
    monkeypatch.setattr("runner.disk.lock._LOOK_SECONDS", 0.01)
    _elsewhere(_dies, tmp_path / "lock", code=7)
    with (tmp_path / "lock").open("a") as file, locked(file.fileno(), tmp_path / "lock"):
        pass


def test_without_what_stands_for_the_lock_two_runs_work_in_one_folder(poor, tmp_path, monkeypatch):
    poor(errno.ENOSYS)
    monkeypatch.setattr("runner.disk.lock._soft", lambda path, wait: None)
    with lock_run(tmp_path), lock_run(tmp_path):
        pass


def test_a_lock_that_is_waited_for_and_the_ledgers_chain(poor, tmp_path):
    poor(errno.EOPNOTSUPP)
    path = tmp_path / "file"
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    with locked(handle, path):
        assert (tmp_path / ".file.held").exists()
    assert not (tmp_path / ".file.held").exists()
    os.close(handle)
    chain = Chain(tmp_path / "chain.jsonl", "subject")
    for number in range(3):
        with chain.appending() as appender:
            appender.append({"number": number})
    assert [line["number"] for line in chain.read()[0]] == [0, 1, 2]


def test_a_run_is_saved_and_resumed(poor, configure, tmp_path, train):
    whole = train(*RECIPE)
    poor(errno.EPERM)
    run_dir = tmp_path / "poor"
    run_dir.mkdir()
    config = configure(*RECIPE)
    device, own = detect_device(config.hardware), Job(config=config, composed={}, run_dir=run_dir)
    with lock_run(run_dir):
        ended = job_module._run_in_process(own, SingleProcess(torch.device("cpu")), device, Stop(12), SilentConsole())
    assert ended.exit_code == ExitCode.INTERRUPTED
    assert run_job(config, {}, run_dir, None).exit_code == ExitCode.DONE
    assert not (run_dir / "checkpoints" / "best").exists()
    same = [path for path in differences(final_state(run_dir), final_state(whole)) if not path.startswith("files")]
    assert not same
    for name in ("best", "last"):
        assert find_saved(run_dir / "checkpoints", name).name == (whole / "checkpoints" / name).resolve().name
    notes = json.loads((run_dir / "run.json").read_text())["notes"]
    assert [sum(word in note for note in notes) for word in ("no locks", "no links", "put folders on the disk")] == [
        1
    ] * 3


def test_other_errors_are_errors(monkeypatch, tmp_path):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="No space"):
        sync_handle(file.fileno())


def _elsewhere(work, path, code=0):
    process = multiprocessing.get_context("fork").Process(target=work, args=(path,))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == code


def _is_refused(path: Path):
    with pytest.raises(RequestError), lock_run(path):
        pass


def _dies(path: Path):
    _held = acquire(path)
    os._exit(7)

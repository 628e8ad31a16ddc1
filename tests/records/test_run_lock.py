"""One run at a time in a folder."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import RequestError
from runner.records.run_lock import LOCK_FILE, lock_run

HOLD = """
import sys, time
from pathlib import Path
from runner.records.run_lock import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_owner_is_refused_and_the_first_one_keeps_it(tmp_path):
    with lock_run(tmp_path):
        for _ in range(2):
            with pytest.raises(RequestError, match=r"^hydra\.run\.dir: got .*no other run"), lock_run(tmp_path):
                pass
        assert (tmp_path / LOCK_FILE).exists()
    assert not list(tmp_path.iterdir())
    with lock_run(tmp_path):
        pass


def test_it_does_not_survive_an_owner_that_is_killed(tmp_path):
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(RequestError), lock_run(tmp_path):
        pass
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert (tmp_path / LOCK_FILE).exists(), "the file stays, the lock does not"
    with lock_run(tmp_path):
        pass


def test_a_lock_file_that_its_owner_has_just_removed_is_not_the_lock(tmp_path, monkeypatch):
    """Between opening and locking, the owner ends and a third one takes the folder: two files, one lock."""
    import fcntl

    flock = fcntl.flock
    third = []

    def end_of_the_owner(handle, operation):
        if not third:
            third.append(None)
            (tmp_path / LOCK_FILE).unlink()
            third[0] = lock_run(tmp_path)
            third[0].__enter__()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", end_of_the_owner)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(RequestError), lock_run(tmp_path):
        pass
    third[0].__exit__(None, None, None)
    assert len(list(Path("/proc/self/fd").iterdir())) == before

"""The process that forks: fit to be forked, told of every end, and no orphan whoever is killed."""

import functools
import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.errors import RequestError, RunError
from runner.processes.fork_server import EndedEarly, ForkServer, shared_server
from runner.processes.signals import WATCHED
from runner.sweeping.preload import MODULES
from tests.conftest import ROOT


@pytest.fixture
def server():
    server = ForkServer([])
    yield server
    server.close()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(*pids):
    end = time.monotonic() + 60
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end, "an orphan"
        time.sleep(0.01)


def test_what_is_forked_has_torch_but_neither_threads_nor_cuda():
    """A fork with threads can hang, one with an open CUDA context cannot use the GPU."""
    server = shared_server(MODULES)
    pid = server.start(eval, "__import__('sys').modules['torch'].cuda.is_initialized()")
    ended = server.wait()
    assert (ended.pid, ended.exit_code, ended.value) == (pid, 0, False)
    assert len(list(Path(f"/proc/{server.pid}/task").iterdir())) == 1
    assert shared_server(MODULES) is server


def test_every_end_is_told(server):
    pids = {
        server.start(operator.neg, 3): (0, -3),
        server.start(bytes, 1_000_000): (0, bytes(1_000_000)),
        server.start(os._exit, 7): (7, None),
        server.start(os._exit, 0): (0, None),
        server.start(eval, "__import__('os').kill(__import__('os').getpid(), 11)"): (-11, None),
        server.start(eval, "1 / 0"): (1, None),
    }
    found = {}
    while len(found) < len(pids):
        ended = server.wait()
        found[ended.pid] = ended.exit_code, ended.value
        assert ended.returned == (ended.value is not None)
    assert found == pids
    assert server.wait(timeout=0) is None


def refuse(key, *, got):
    raise RequestError(key, got, "another", nearest="2")


def test_calls_are_answered_and_refused_as_if_they_were_made_here(server):
    assert server.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(RequestError, match=r"data\.limit: got 1, expected another"):
        server.call(refuse, "data.limit", got=1)
    with pytest.raises(EndedEarly, match=r"_exit ended without an answer \(exit code 3\)"):
        server.call(os._exit, 3)
    assert server.call(operator.neg, 1) == -1


def test_what_an_initializer_does_is_there_in_every_call():
    with ForkServer([], initializer=functools.partial(os.chdir, "/")) as server:
        assert [server.call(os.getcwd) for _ in range(2)] == ["/", "/"]
    assert str(Path.cwd()) != "/"


def test_signals_reach_what_is_under_way_and_nothing_is_left(server):
    pids = [server.start(time.sleep, 1000) for _ in range(2)]
    server.signal(signal.SIGTERM)
    assert sorted(server.wait().pid for _ in pids) == sorted(pids)
    pid = server.start(time.sleep, 1000)
    server.abandon()
    assert not alive(pid)
    assert server.start(operator.neg, 1)
    assert server.wait().value == -1


@pytest.mark.parametrize("number", WATCHED, ids=lambda number: number.name)
def test_what_a_scheduler_tells_every_process_leaves_the_server_and_ends_its_calls(server, number):
    pid = server.start(time.sleep, 1000)
    os.kill(server.pid, number)
    os.kill(pid, number)
    ended = server.wait()
    assert (ended.pid, ended.returned) == (pid, False)
    server.start(operator.neg, 1)
    assert server.wait().value == -1


def test_a_server_that_is_killed_takes_its_calls_along_and_is_replaced():
    server = ForkServer([])
    pid = server.start(time.sleep, 1000)
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(RunError, match=r"has gone \(exit code -9\)"):
        server.wait()
    wait_until_gone(pid)
    assert server.closed
    with pytest.raises(RunError):
        server.start(operator.neg, 1)


CALLER = """
import time
from runner.processes.fork_server import ForkServer
server = ForkServer([])
print(server.pid, server.start(time.sleep, 1000), flush=True)
time.sleep(1000)
"""


def test_nothing_survives_a_caller_that_is_killed():
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in caller.stdout.readline().split()]
    assert all(map(alive, pids))
    caller.kill()
    caller.communicate()
    wait_until_gone(*pids)

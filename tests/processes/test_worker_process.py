"""A forked process that answers calls: what it returns and raises arrives here, and it ends when nobody asks."""

import os
import sys

import pytest

from runner.errors import RequestError, RunError
from runner.processes.worker_process import WorkerProcess, bookkeeper, call_here


def refuse(value):
    raise RequestError("data.limit", value, "another", nearest="2")


def test_calls_are_answered_elsewhere():
    with WorkerProcess() as call:
        assert call(divmod, 7, 2) == (3, 1)
        there = call(os.getpid)
        assert there != os.getpid()
        with pytest.raises(RequestError, match=r"data\.limit: got 1, expected another"):
            call(refuse, 1)
        assert call(os.getpid) == there, "an error of the request does not end it"
    with pytest.raises(ChildProcessError):
        os.waitpid(there, 0)


def test_an_end_without_an_answer_is_one_line():
    with WorkerProcess() as call, pytest.raises(RunError, match="planning ended with code 3"):
        call(os._exit, 3)


@pytest.mark.parametrize("overrides", [[], ["trainer=dp"]], ids=["ordinary", "private"])
def test_a_process_with_torch_keeps_its_books_itself(configure, overrides):
    assert "torch" in sys.modules
    with bookkeeper(configure("data.limit=200", *overrides)) as call:
        assert call is call_here

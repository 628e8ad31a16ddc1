"""Memory that a process cannot get: one line, before libraries abort or out of whatever fails."""

import resource

import pytest

from runner.environment import address_space
from runner.environment.address_space import require_room_for_torch
from runner.errors import ExitCode, RequestError
from runner.processes.command_end import run_command


@pytest.fixture
def limited(monkeypatch):
    """limited(program) -> as if this process had a limit of address space, and ``program`` showed what fits into it."""

    def limited(program):
        monkeypatch.setattr(resource, "getrlimit", lambda which: (2**30, resource.RLIM_INFINITY))
        monkeypatch.setattr(address_space, "_TRIAL", program)

    return limited


def test_a_limit_in_which_torch_cannot_work_is_refused(limited):
    limited("raise ImportError('libtorch.so: failed to map segment')")
    with pytest.raises(RequestError) as error:
        require_room_for_torch()
    assert str(error.value).startswith(
        "ulimit: got -v 1048576, in which torch cannot work (ImportError: libtorch.so: failed to map segment), "
    )
    limited("import os; os.abort()")
    with pytest.raises(RequestError, match=r"in which torch cannot work \(exit code -6\)"):
        require_room_for_torch()


def test_a_limit_in_which_it_works_is_none(limited):
    limited("")
    require_room_for_torch()


def test_without_a_limit_nothing_is_tried(monkeypatch):
    monkeypatch.setattr(address_space, "subprocess", None)
    require_room_for_torch()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_runs_out_in_any_command_is_one_line(error, capsys):
    def act():
        raise error

    assert run_command(act) == ExitCode.FAILED
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory (")
    assert len(said.splitlines()) == 1

"""The first process decides, and all hear of it, refusals and all; with real processes."""

import re

import pytest

from runner.errors import RequestError
from runner.planning.device import detect_device
from runner.training.distributed.agreement import decide_on_main
from runner.training.distributed.launch import share_work


def work(folder, world, device):
    """Leave what this process meets in a file of its own: only what the first one meets is handed back."""

    def refuse():
        raise RequestError("data.root", "nowhere", "a folder that is there")

    assert decide_on_main(world, lambda: world.rank + 7) == 7
    try:
        decide_on_main(world, refuse)
    except RequestError as refusal:
        (folder / str(world.rank)).write_text(str(refusal))
        raise


def test_a_refusal_of_the_first_of_two_processes_is_everybodys(tmp_path, configure):
    hardware = configure("hardware=cpu").hardware
    with pytest.raises(RequestError, match=re.escape("data.root: got nowhere")) as refused:
        share_work(
            work,
            tmp_path,
            hardware=hardware,
            device=detect_device(hardware),
            processes=2,
            failures=tmp_path / "failures.log",
        )
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == [str(refused.value)] * 2

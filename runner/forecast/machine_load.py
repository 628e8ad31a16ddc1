"""The load by other processes while something is measured."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SIZE = 512
"""Rows of the products that keep a core busy: milliseconds each, without the interpreter's lock."""


@contextmanager
def competing_load(count: int) -> Iterator[None]:
    """Keep ``count`` more cores at work, as the other processes of a run do, which share caches, memory and power.

    Two hardware threads of one core are half as fast together as each is alone.
    """
    matrix = torch.ones(_SIZE, _SIZE)
    out = threading.Event()

    def work() -> None:
        result = torch.empty_like(matrix)
        while not out.is_set():
            torch.mm(matrix, matrix, out=result)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        out.set()
        for thread in threads:
            thread.join()

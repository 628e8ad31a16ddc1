"""Python's garbage collector during training."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Collect nothing inside this context, in which libraries are imported: what they bring stays.

    torch alone brings 350,000 objects, over which the collector would go again and again: a tenth of its import.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def setup_objects_frozen() -> Iterator[None]:
    """Leave what exists by now out of the collections inside this context.

    The libraries bring some 350,000 objects that live as long as the process.  To look at all of them takes 150 ms, at
    a moment that nobody chose; what a training loop itself leaves behind is looked at in less than one.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()

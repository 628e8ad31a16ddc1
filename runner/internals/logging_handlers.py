"""The lists in which ``logging`` keeps every handler, whoever made it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def handlers_unlisted() -> Iterator[None]:
    """Inside, the handlers that there were are in none of ``logging``'s lists, and at the end they are again.

    ``logging.config`` closes every handler that is listed, and Hydra calls it.  What is added inside stays.
    """
    listed, named = list(logging._handlerList), dict(logging._handlers)  # type: ignore[attr-defined]
    logging._handlerList.clear()  # type: ignore[attr-defined]
    logging._handlers.clear()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        logging._handlerList[:0] = listed  # type: ignore[attr-defined]
        logging._handlers.update(named)  # type: ignore[attr-defined]

"""What the processes of a run have to agree on before they compute together, whatever each finds on its own disk.

Nodes may share no disk, hold other data or run other code.  So what is found in folders is found by the first process
and told to the others, what each works out by itself is compared, and where one process is refused all of them are:
one that left by itself would be waited for.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from runner.errors import RequestError, RunError, as_typed

if TYPE_CHECKING:
    from runner.training.distributed.world import World

T = TypeVar("T")


def on_main_process(world: World, act: Callable[[], T]) -> T | None:
    """Call ``act`` in the first process alone; its result there, None in the others.

    Raises:
        RequestError: what the first process was refused with, in every process.
        RunError: what it failed with, in every process.
    """
    result: T | None = None
    failure: Exception | None = None
    if world.is_main:
        try:
            result = act()
        except Exception as error:
            failure = error
    told = world.broadcast(_as_picklable(failure))
    if failure is not None or told is not None:
        _raise(failure or told)
    return result


def decide_on_main(world: World, decide: Callable[[], T]) -> T:
    """What ``decide`` gives in the first process, in every process; it can be pickled.

    Raises:
        RequestError: see ``on_main_process``.
        RunError: see ``on_main_process``.
    """
    decided: T = world.broadcast(on_main_process(world, decide))
    return decided


def on_all_processes(world: World, action: Callable[[], T]) -> T:
    """Call ``action`` in every process; its result, where none of them was refused.

    ``action`` exchanges nothing between the processes.

    Raises:
        RequestError: what this process was refused with, or else what the first process that was refused was refused
            with, and which it was.
        RunError: the same of a failure.
    """
    result: Any = None
    failure: Exception | None = None
    try:
        result = action()
    except Exception as error:
        failure = error
    for rank, (told, host) in enumerate(world.gather((_as_picklable(failure), socket.gethostname()))):
        if told is not None:
            _raise(failure or _placed(told, f"process {rank} on {host}"))
    done: T = result
    return done


def main_process_first(world: World, action: Callable[[], T]) -> T:
    """``on_all_processes``, the first process before the others, which find what it has left on a shared disk."""
    own = on_main_process(world, action)
    return on_all_processes(world, (lambda: own) if world.is_main else action)  # type: ignore[arg-type, return-value]


def refuse_differences(world: World, facts: Mapping[str, Any]) -> None:
    """Refuse, in every process, to compute together what is not the same in all of them.

    ``facts`` are plain values by the key that a user would type for them.

    Raises:
        RequestError: names the first key that differs, the process, and both values.
    """
    if world.size == 1:
        return
    found = world.gather((dict(facts), socket.gethostname()))
    first, home = found[0]
    for key in first:
        for rank, (own, host) in enumerate(found):
            if own.get(key) != first[key]:
                got = f"{as_typed(own.get(key))} in process {rank} on {host}"
                _raise(RequestError(key, got, f"{as_typed(first[key])}, as in process 0 on {home}"))


def _as_picklable(failure: Exception | None) -> RequestError | RunError | None:
    """``failure`` as another process can hear of it: of a class that it knows and can unpickle."""
    if failure is None or isinstance(failure, RequestError):
        return failure
    if isinstance(failure, RunError):
        return RunError(str(failure))
    return RunError(" ".join(f"{type(failure).__name__}: {failure}".split()))


def _placed(failure: RequestError | RunError, place: str) -> RequestError | RunError:
    if isinstance(failure, RequestError):
        got = f"{as_typed(failure.got)} in {place}"
        return RequestError(failure.key, got, failure.expected, nearest=failure.nearest, cell=failure.cell)
    return RunError(f"{place}: {failure}")


def _raise(failure: Exception) -> None:
    failure.raised_on_all = True  # type: ignore[attr-defined]
    raise failure


def raised_on_all(failure: BaseException) -> bool:
    """Whether every process has met ``failure``, so that they are in step and can go on with something else."""
    return getattr(failure, "raised_on_all", False)

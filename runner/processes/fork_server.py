"""A process that imports torch and forks: each call gets a fresh process without paying for the import.

The server is a program of its own, started by ``ForkServer``.  It imports, starts no thread and never touches a GPU, so
that what it forks is like a new process; whatever ends a call (an exception, a segmentation fault, ``kill -9``) ends
that process alone.  The standard library's fork server is not used, because its children outlive a parent that was
killed: here the server ends them as soon as its connection closes.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import pickle
import selectors
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from runner.errors import RequestError, RunError
from runner.internals.interpreter_exit import leave_process
from runner.processes.signals import WATCHED

Given = ParamSpec("Given")
Answer = TypeVar("Answer")

_BOOT = "import sys; sys.path[:] = {path!r}; from runner.processes.fork_server import main; main({handle}, {modules!r})"
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""OpenBLAS, and Arrow where scikit-learn finds it, start threads when they are imported, and a process that forks may
have none."""
_CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a call ended."""

    pid: int
    exit_code: int
    """Of the process; negative for the signal that ended it."""
    returned: bool
    """Whether the call came to its end."""
    value: Any
    """What it returned; None when it did not."""


class EndedEarly(RunError):
    """A call whose process ended before it answered: by a signal, say, as of a kernel that is out of memory."""


class ForkServer:
    """The caller's end, for one thread; a context that closes it."""

    def __init__(self, modules: Sequence[str], *, initializer: Callable[[], object] | None = None) -> None:
        """Start the server, which imports ``modules`` and calls ``initializer``, a picklable one; returns at once."""
        first = pickle.dumps(initializer)
        self._connection, theirs = Pipe()
        code = _BOOT.format(path=sys.path, handle=theirs.fileno(), modules=list(modules))
        command = [sys.executable, *(f"-W{option}" for option in sys.warnoptions), "-c", code]
        # Out of the terminal's process group: Ctrl-C goes to the caller alone, which passes it on once.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            process_group=0,
            env=os.environ | _ONE_THREAD,
        )
        theirs.close()
        self._running: set[int] = set()
        self._early: list[Ended] = []
        self._connection.send_bytes(first)

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process of the server."""
        return self._process.pid

    def start(self, function: Callable[[Any], Any], argument: Any) -> int:
        """Call ``function(argument)`` in a new process and return its id; both must be picklable.

        Raises:
            RunError: the server has gone.
        """
        try:
            self._connection.send_bytes(pickle.dumps((function, argument)))
            while True:
                message = self._connection.recv()
                if isinstance(message, int):
                    self._running.add(message)
                    return message
                self._early.append(_ended(*message))
        except (EOFError, OSError) as error:
            raise self._gone() from error

    def wait(self, timeout: float | None = None) -> Ended | None:
        """The next call that has ended; None when none has after ``timeout`` seconds (null: for as long as it takes).

        Raises:
            RunError: the server has gone; the calls that were under way have been killed.
        """
        if not self._early:
            try:
                if not self._connection.poll(timeout):
                    return None
                self._early.append(_ended(*self._connection.recv()))
            except (EOFError, OSError) as error:
                raise self._gone() from error
        ended = self._early.pop(0)
        self._running.discard(ended.pid)
        return ended

    def call(self, function: Callable[Given, Answer], /, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        """What ``function`` returns in a new process, while no other call is under way; all of it must be picklable.

        Raises:
            RequestError: it was raised there.
            RunError: it was raised there, or the process or the server ended without an answer.
        """
        self.start(_answer, (function, args, kwargs))
        ended = self.wait()
        assert ended is not None
        if not ended.returned:
            raise EndedEarly(f"{function.__name__} ended without an answer (exit code {ended.exit_code})")
        if isinstance(ended.value, RequestError | RunError):
            raise ended.value
        answer: Answer = ended.value
        return answer

    def signal(self, number: int) -> None:
        """Send a signal to every call that is under way."""
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError):  # has ended, which nobody has been told yet
                os.kill(pid, number)

    def abandon(self) -> None:
        """Kill every call that is under way."""
        self.signal(signal.SIGKILL)
        while self._running:
            self.wait()

    def close(self) -> None:
        """End the server and with it every call that is under way; again is allowed."""
        self._connection.close()
        self._process.wait()

    @property
    def closed(self) -> bool:
        """Whether it can be asked for nothing any more."""
        return self._connection.closed

    def _gone(self) -> RunError:
        self.signal(signal.SIGKILL)
        self._running.clear()
        self.close()
        return RunError(f"the process that others are forked from has gone (exit code {self._process.returncode})")


_shared: list[ForkServer] = []


def shared_server(modules: Sequence[str]) -> ForkServer:
    """The server of this process, which starts it once for all its sweeps, and anew when it has gone."""
    if not _shared or _shared[-1].closed:
        _shared[:] = [ForkServer(modules)]
    return _shared[-1]


@atexit.register
def _close_shared() -> None:
    for server in _shared:
        server.close()


def _ended(pid: int, exit_code: int, answer: bytes) -> Ended:
    returned = exit_code == 0 and bool(answer)
    return Ended(pid=pid, exit_code=exit_code, returned=returned, value=pickle.loads(answer) if returned else None)


@dataclass(kw_only=True)
class _Call:
    pipe: int
    answer: bytearray = field(default_factory=bytearray)


def main(handle: int, modules: Sequence[str]) -> None:
    """The server: import ``modules``, then fork for each request until the connection ``handle`` closes."""
    os.set_inheritable(handle, False)  # for whatever program a call starts
    # Schedulers tell every process of a job.  The server goes when its caller does, and its calls can save by then.
    for number in WATCHED:
        signal.signal(number, lambda number, frame: None)
    for name in modules:
        importlib.import_module(name)
    connection = Connection(handle)
    try:
        initializer = connection.recv()
    except (EOFError, OSError):  # the caller has gone
        leave_process(0)
    if initializer is not None:
        initializer()
    # The collector writes into every object that it visits, and a page that is written is shared no more.
    gc.collect()
    gc.freeze()
    _Server(connection).serve()


class _Server:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._calls: dict[int, _Call] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection, selectors.EVENT_READ)
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake)

    def serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._connection:
                    try:
                        request = self._connection.recv_bytes()
                    except (EOFError, OSError):
                        self._end()
                    self._fork(request)
                elif key.fileobj == self._woken:
                    os.read(self._woken, _CHUNK)
                    self._reap()
                elif key.data in self._calls:
                    self._read(self._calls[key.data])

    def _fork(self, request: bytes) -> None:
        mine, theirs = os.pipe()
        # the server is deaf to these; what comes to a process that is being forked waits until it listens
        before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        pid = os.fork()
        if pid == 0:
            for number in WATCHED:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._selector.close()
            others = [call.pipe for call in self._calls.values()]
            _call(request, theirs, close=[self._connection.fileno(), self._woken, self._wake, mine, *others])
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(theirs)
        os.set_blocking(mine, False)
        self._calls[pid] = _Call(pipe=mine)
        self._selector.register(mine, selectors.EVENT_READ, data=pid)
        self._connection.send(pid)

    def _read(self, call: _Call) -> None:
        # Until it is empty rather than closed: what a call has started may hold the other end for longer.
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(call.pipe, _CHUNK):
                call.answer += chunk
            self._selector.unregister(call.pipe)

    def _reap(self) -> None:
        for pid in list(self._calls):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            call = self._calls.pop(pid)
            if call.pipe in self._selector.get_map():
                self._read(call)
            if call.pipe in self._selector.get_map():
                self._selector.unregister(call.pipe)
            os.close(call.pipe)
            self._connection.send((pid, os.waitstatus_to_exitcode(status), bytes(call.answer)))

    def _end(self) -> None:
        """The caller has gone, perhaps by ``kill -9``: nothing of it may go on beside its successor."""
        for pid in self._calls:
            os.kill(pid, signal.SIGKILL)
        leave_process(0)


def _answer(asked: tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]) -> Any:
    """In the new process: what a function returns, or the refusal that it raises."""
    function, args, kwargs = asked
    try:
        return function(*args, **kwargs)
    except (RequestError, RunError) as error:
        return error


def _call(request: bytes, answer: int, *, close: Sequence[int]) -> None:
    """In the new process: make the call and leave, whatever happens."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for handle in close:
            os.close(handle)
        function, argument = pickle.loads(request)
        value = pickle.dumps(function(argument))
        with os.fdopen(answer, "wb") as file:
            file.write(value)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

"""Programs that tests start, forked from an interpreter that has imported torch: the import takes longer than most.

``python -m runner...`` and the processes of a run that has several begin as a fork of an interpreter with the same
environment, which has imported what they need, computed nothing and started no thread.  From there on they are what
``subprocess`` and ``multiprocessing`` would have started: children of this process with an id, a working folder, an
environment, signals and files of their own.  Whatever asks for more than that (a variable that libraries read while
they are loaded, limits, another interpreter) gets the real thing.
"""

import atexit
import contextlib
import ctypes
import fcntl
import functools
import gc
import importlib
import inspect
import multiprocessing.util
import os
import pickle
import re
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = (
    "torch._dynamo", "torch.func", "torch.distributed", "accelerate.utils", "safetensors.torch", "sklearn.datasets",
    "dp_accounting.pld.privacy_loss_distribution", "cryptography.hazmat.primitives.ciphers", "rich.console",
    "rich.live", "multiprocessing.spawn", "runner.commands.train", "runner.execution.job", "runner.data.open",
    "runner.data.digits", "runner.planning.build", "runner.records.recorder", "runner.records.environment",
    "runner.training.distributed.launch", "runner.training.trainers", "runner.training.loop",
    "runner.training.checkpointing.resume", "runner.training.gradients.private_parts",
    "runner.training.precision.cpu_float16", "runner.training.distributed.world",
    "runner.training.non_finite_gradients",
)  # fmt: skip
"""What runs import, some of it late."""
WITHOUT_THREADS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""OpenBLAS and Arrow, which scikit-learn imports where it is there, start threads when they are imported."""
_READ_LATE = {
    "HYDRA_FULL_ERROR", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "OPENBLAS_NUM_THREADS", "PYTEST_CURRENT_TEST",
    "PYTHONPATH",
    "PYTHONWARNINGS", "RECIPE_RUNNER_TARGETS", "TORCHINDUCTOR_CACHE_DIR", "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR",
    "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
}  # fmt: skip
"""Variables that one interpreter serves whatever they are: read when a program runs, or put in force in the fork."""
_OF_LAUNCHERS = re.compile(
    "ACCELERATE_|KMP_(AFFINITY|BLOCKTIME)$|(GROUP_|LOCAL_|ROLE_)?(RANK|WORLD_SIZE|NAME)$|"
    "MASTER_(ADDR|PORT)$|TORCHELASTIC_|TORCH_NCCL_ASYNC"
)
"""Variables of torchrun and Accelerate: read late, or (``KMP_``) by an OpenMP that is not this one."""
_LAUNCHERS = ("torch.distributed.run", "accelerate.commands.launch")
_OF_TESTS = ("tests.faults.campaign", "tests.training.threads_at_the_end")
_STARTING_OTHERS = ("hardware.processes=", "--multirun", "sweep=", *_LAUNCHERS)
"""Arguments of programs that start processes of their own."""
_STREAMS = ("p2cread", "c2pwrite", "errwrite")
_HEAD = struct.Struct("q")
_SUBREAPER, _SET_NAME = 36, 15
_FIRST_SPARE = 500
"""File descriptors from here on are nobody's."""


class Programs:
    """What starts programs for the tests of this process.  The interpreter to fork from begins with the first."""

    def __init__(self, server=None):
        self._first = _loaded(os.environ)
        self._server = server
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def forked(self):
        """Inside, ``subprocess.Popen`` and ``multiprocessing`` fork where that comes to the same."""
        execute, spawn = subprocess.Popen._execute_child, multiprocessing.util.spawnv_passfds
        signature = inspect.signature(execute)

        @functools.wraps(execute)
        def execute_child(popen, *args, **kwargs):
            asked = signature.bind(popen, *args, **kwargs).arguments
            environment = dict(os.environ if asked["env"] is None else asked["env"])
            if not (_is_plain(asked) and self._can_serve(environment)):
                execute(popen, *args, **kwargs)
                return
            ends = [asked[name] for name in _STREAMS]
            popen.pid = self._fork(
                **_what(list(asked["args"])),
                environment=environment,
                folder=str(Path.cwd()) if asked["cwd"] is None else os.fspath(asked["cwd"]),
                files={number: number if end == -1 else end for number, end in enumerate(ends)}
                | {number: number for number in asked["pass_fds"]},
                session=asked["start_new_session"],
                group=asked["process_group"],
            )
            popen._child_created = True
            popen._close_pipe_fds(
                *(asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
            )

        def spawnv_passfds(path, args, passfds):
            code = next((word for word in map(os.fsdecode, args) if "spawn_main" in word), None)
            environment = dict(os.environ)
            if code is None or not self._can_serve(environment):
                return spawn(path, args, passfds)
            files = {number: number for number in (0, 1, 2, *map(int, passfds))}
            return self._fork(code=code, environment=environment, folder=str(Path.cwd()), files=files)

        subprocess.Popen._execute_child, multiprocessing.util.spawnv_passfds = execute_child, spawnv_passfds
        try:
            yield
        finally:
            subprocess.Popen._execute_child, multiprocessing.util.spawnv_passfds = execute, spawn

    def close(self):
        """End the interpreter that programs are forked from."""
        if self._server is not None:
            connection, process = self._server
            connection.close()
            process.wait()

    def _can_serve(self, environment):
        loaded = environment.get("PYTHONWARNINGS") in (None, "error") and _loaded(environment) == self._first
        return sys.platform == "linux" and loaded and environment.get("PYTHONPATH") in (None, str(ROOT))

    def _fork(self, *, files, **request):
        request["ignored"] = [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]
        request["blocked"] = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        request["targets"] = list(files)
        payload = pickle.dumps(request)
        with self._lock:
            if self._server is None:
                self._server = _start_server()
            connection, _ = self._server
            # the fork is adopted by this process, which can then wait for it as for any child
            _adopt_orphans(True)
            try:
                socket.send_fds(connection, [_HEAD.pack(len(payload))], list(files.values()))
                connection.sendall(payload)
                return _HEAD.unpack(_read(connection, _HEAD.size))[0]
            finally:
                _adopt_orphans(False)


def _loaded(environment):
    return {
        name: value for name, value in environment.items() if name not in _READ_LATE and not _OF_LAUNCHERS.match(name)
    }


def _what(words):
    """The module with its arguments, or the code, that a command line of this interpreter runs; {} for another one."""
    buffered = [word for word in words[:2] if word != "-u"] + words[2:]  # torchrun writes -u
    if buffered[:2] == [sys.executable, "-m"] and _is_ours(buffered[2]):
        return {"module": buffered[2:]}
    forks = words[0] == sys.executable and words[-2] == "-c" and "runner.processes.fork_server import main" in words[-1]
    if forks and "runner.autotune.peak_memory" not in words[-1]:  # it measures itself
        return {"code": words[-1]}
    return {}


def _is_ours(module):
    return module.partition(".")[0] == "runner" or module in (*_LAUNCHERS, *_OF_TESTS)


def _is_plain(asked):
    """Whether Popen was asked for a program of this project's and for nothing that a fork could not have."""
    words, folder = asked["args"], asked["cwd"]
    listed = isinstance(words, (list, tuple)) and len(words) > 2 and all(isinstance(word, str) for word in words)
    if not listed or not _what(list(words)):
        return False
    if asked["preexec_fn"] is not None or not asked["close_fds"] or asked["shell"]:
        return False
    return asked["executable"] in (None, sys.executable) and (folder is None or Path(folder).is_dir())


def _start_server():
    mine, theirs = socket.socketpair()
    late = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **WITHOUT_THREADS}
    process = subprocess.Popen(
        [sys.executable, "-c", f"from tests.programs import serve; serve({theirs.fileno()})"],
        cwd=ROOT,
        env=os.environ | late,
        stdin=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
    )
    theirs.close()
    return mine, process


def _adopt_orphans(adopt):
    assert ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, int(adopt), 0, 0, 0) == 0


def _read(connection, count):
    found = b""
    while len(found) < count:
        part = connection.recv(count - len(found))
        assert part, "the interpreter that programs are forked from has gone"
        found += part
    return found


def serve(handle):
    """In the interpreter that is forked from: import, then fork for each request until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(handle, False)
    connection = socket.socket(fileno=handle)
    for name in MODULES:
        importlib.import_module(name)
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads: what is forked from here may hang"
    # whoever reads what this process was born with must not wait for it
    for number in (1, 2):
        os.dup2(0, number)
    gc.collect()
    gc.freeze()
    _fork_for(connection)


def _fork_for(connection):
    """Fork for each request until the connection closes."""
    while True:
        head, files, _, _ = socket.recv_fds(connection, _HEAD.size, 64)
        if not head:
            os._exit(0)
        head += _read(connection, _HEAD.size - len(head))
        request = pickle.loads(_read(connection, _HEAD.unpack(head)[0]))
        told, tell = os.pipe()
        between = os.fork()
        if between == 0:
            program = os.fork()
            if program:
                os.write(tell, _HEAD.pack(program))
                os._exit(0)
            connection.close()
            os.close(told)
            _begin(files, tell, **request)
        os.close(tell)
        os.waitpid(between, 0)
        program = os.read(told, _HEAD.size)
        os.read(told, 1)  # the end of the pipe: it is what was asked for
        connection.sendall(program)
        for number in (told, *files):
            os.close(number)


def _begin(
    files, tell, *, targets, environment, folder, ignored, blocked, module=None, code=None, session=False, group=-1
):  # fmt: skip
    """In the new process: become what was asked for, and leave."""
    status = 1
    try:
        # out of the way of the files that have numbers
        ready = fcntl.fcntl(tell, fcntl.F_DUPFD, _FIRST_SPARE)
        os.close(tell)
        _take_files(dict(zip(targets, files, strict=True)))
        if session:
            os.setsid()
        if group >= 0:
            os.setpgid(0, group)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(ready)
        if environment.get("PYTHONWARNINGS") != "error" and "error" in sys.warnoptions:
            sys.warnoptions.remove("error")
            warnings.filters.remove(("error", None, Warning, None, 0))
            warnings._filters_mutated()
        several = module is not None and any(word.startswith(_STARTING_OTHERS) for word in module)
        with _own_processes_forked() if several else contextlib.nullcontext():
            status = _run(module, code, folder)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


@contextlib.contextmanager
def _own_processes_forked():
    """What the program of this process starts in turn is forked from a copy of it that has done nothing yet."""
    mine, theirs = socket.socketpair()
    if os.fork() == 0:
        mine.close()
        with Path(os.devnull).open("r+b", buffering=0) as nothing:
            for number in (0, 1, 2):
                os.dup2(nothing.fileno(), number)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _fork_for(theirs)
    theirs.close()
    with mine, Programs(server=(mine, None)).forked():
        yield


def _take_files(files):
    spare = {target: fcntl.fcntl(file, fcntl.F_DUPFD, _FIRST_SPARE) for target, file in files.items()}
    for file in files.values():
        os.close(file)
    for target, file in spare.items():
        os.dup2(file, target)
        os.close(file)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace")
    sys.stderr.reconfigure(line_buffering=True)


def _run(module, code, folder):
    """As the interpreter runs what it is given on its command line."""
    status = 0
    try:
        if code is None:
            sys.path[0], sys.argv = folder, ["-m", *module[1:]]
            runpy._run_module_as_main(module[0])
        else:
            sys.argv = ["-c", "--multiprocessing-fork"]
            if "spawn_main" in code:
                ctypes.CDLL(None).prctl(_SET_NAME, b"spawn_main")
            exec(code, {"__name__": "__main__"})
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if status == 1 and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        status = 120
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    return status & 0xFF

"""Runs in forked processes: torch is imported once, so that a kill and a resume cost a second and not ten.

What is forked is the run itself (``runner.execution.job.run_job``, with the processes that it starts).  The program
that forks has imported everything, computed nothing and started no thread, so that a child is like a fresh process.
"""

import ctypes
import importlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from tests.programs import MODULES, WITHOUT_THREADS

ROOT = Path(__file__).resolve().parent.parent.parent
_SUBREAPER = 36
_FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.truncate", "shutil.rmtree")
_ENDS_WITHIN = 60.0


def prepare(cache):
    """Make this process one that can be forked into runs; ``cache`` is the folder of decoded images."""
    os.environ |= {
        "RECIPE_RUNNER_TARGETS": "tests", "XDG_CACHE_HOME": str(cache), "XDG_DATA_HOME": str(cache / "data"),
        "XDG_STATE_HOME": str(cache / "state"),
        "OMP_NUM_THREADS": "1", **WITHOUT_THREADS,
    }  # fmt: skip
    for name in (*MODULES, "tests.faults.recipes"):
        importlib.import_module(name)
    # What a run leaves behind comes to this process, so that orphans are seen.
    assert ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0) == 0
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads: what is forked from here may hang"


def configure(overrides):
    """A checked configuration."""
    from runner.config.compose import Composer
    from runner.config.load import load_config
    from runner.config.rules.rules import check

    composer = Composer(caller=ROOT)
    composed = composer.compose(list(overrides))
    config = load_config(composed, composer.option_defaults(composed))
    check(config)
    return config


def start(config, run_dir, before=None):
    """Fork one run in ``run_dir`` and return its process; ``before`` is called there first."""
    run_dir.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        with run_dir.with_name(f"{run_dir.name}.log").open("ab", buffering=0) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        _fork_ranks()
        _fix_key()
        if before is not None:
            before()
        code = _run(config, run_dir)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run(config, run_dir):
    from runner.errors import RequestError, RunError
    from runner.execution.job import run_job

    try:
        return int(run_job(config, {}, run_dir, None).exit_code)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _fork_ranks():
    """Fork the processes of a run as well: a new interpreter for each would import torch again."""
    from runner.processes import spawn

    start = spawn.start_processes
    spawn.start_processes = lambda *args, **options: start(*args, **(options | {"start_method": "fork"}))


def _fix_key():
    """Let the operating system's randomness be known, so that private runs can be compared: their epsilon as well.

    ``privacy.unsafe_noise_seed`` fixes the key too, but such a run has no epsilon.
    """
    from runner.privacy.mechanism.key import SecretKey

    SecretKey.from_system = classmethod(lambda cls: cls.from_unsafe_seed(5))


def wait(pid):
    """Exit code of a run (negative: the signal that ended it), once it and all that it started are gone."""
    code, end = None, time.monotonic() + _ENDS_WITHIN
    while True:
        try:
            found, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            assert code is not None
            return code
        if found == pid:
            code = os.waitstatus_to_exitcode(status)
        if found == 0:
            assert time.monotonic() < end, f"a process outlives its run: {descendants(os.getpid())}"
            time.sleep(0.002)


def finish(config, run_dir, before=None):
    """Run to the end and insist that it ends well."""
    code = wait(start(config, run_dir, before))
    assert code == 0, f"exit code {code}:\n{run_dir.with_name(run_dir.name + '.log').read_text()[-3000:]}"


def descendants(pid):
    """Every process below ``pid``."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def kill_after(pid, seconds, draw):
    """``kill -9`` after a time: the whole run, or, where it has several processes, at times only one of them."""
    time.sleep(seconds)
    below = descendants(pid)
    victims = [pid, *below]
    if below and draw.random() < 0.5:
        victims = [draw.choice(victims)]
    for victim in victims:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue


def at_file_operation(number, tell=None):
    """What to do before a run so that it is killed just before operation ``number`` on its checkpoints' files.

    With ``tell``, a file, nothing is killed and the operations are counted there.
    """
    counted = 0

    def watch(event, arguments):
        nonlocal counted
        if event not in _FILE_EVENTS or not isinstance(arguments[0], str):
            return
        path = arguments[0]
        # shutil.rmtree names files relative to an open folder
        if "/checkpoints/" in path or not path.startswith("/"):
            counted += 1
            if counted == number:
                os.kill(os.getpid(), signal.SIGKILL)
            if tell is not None:
                os.pwrite(teller, f"{counted:08d}".encode(), 0)

    def before():
        sys.addaudithook(watch)

    if tell is not None:
        teller = os.open(tell, os.O_WRONLY | os.O_CREAT, 0o600)
    return before

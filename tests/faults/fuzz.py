"""Five hundred requests from ``hostile_requests.py``: each must end with exit code 0 or 2, in one line.

``python -m tests.faults.fuzz`` calls the program in this process, and some of the requests in processes of their own.
"""

import argparse
import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.faults.hostile_requests import TAIL, command_lines, flagged, yaml_files

_SECONDS = 120
"""No request may take longer, on a machine as busy as may be."""


def requests():
    """Arguments and, or None, the contents of ``model/fuzzed.yaml`` in a folder of configurations."""
    return st.one_of(
        st.tuples(command_lines.map(lambda lines: [*lines, *TAIL]), st.none()),
        st.tuples(command_lines.map(lambda lines: [*lines, *TAIL]), st.none()),
        st.tuples(command_lines.map(lambda lines: [*lines, *TAIL]), st.none()),
        st.tuples(flagged.map(lambda words: [*words, *TAIL]), st.none()),
        st.tuples(st.just(["--config-dir", "extra", "model=fuzzed", *TAIL]), yaml_files),
    )


def prepare(yaml):
    """Empty the working folder and put the drawn YAML file into it."""
    for path in Path.cwd().iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder = Path("extra") / "model"
    folder.mkdir(parents=True)
    if yaml is not None:
        (folder / "fuzzed.yaml").write_bytes(yaml)


def call(arguments):
    """Exit code and standard error of the program, called in this process."""
    from hydra.core.global_hydra import GlobalHydra

    from runner.commands.train import main

    out, err = io.StringIO(), io.StringIO()
    signal.alarm(_SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
    finally:
        signal.alarm(0)
        GlobalHydra.instance().clear()
    return int(code), err.getvalue()


def call_outside(arguments):
    """The same in a process of its own; arguments that no shell could hand over are left out."""
    usable = [argument for argument in arguments if "\0" not in argument]
    done = subprocess.run(
        [sys.executable, "-m", "runner", *(os.fsencode(argument) for argument in usable)],
        capture_output=True, check=False, timeout=_SECONDS,
    )  # fmt: skip
    return done.returncode, done.stderr.decode(errors="replace")


def judge(arguments, yaml, code, err):
    """Insist on the contract of exit codes and lines."""
    told = f"{arguments} {yaml!r}: exit code {code}\n{err[-2000:]}"
    assert "Traceback" not in err, told
    assert code in (0, 2), told
    if code == 2:
        assert err.startswith("error: "), told
        assert len(err.splitlines()) == 1, told


def main():
    """Draw, call, judge, and say how many were right and wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--outside", type=int, default=20, help="how many of them in a process of their own as well")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent.parent)
    found, drawn, wrong = Counter(), [], []

    @seed(arguments.seed)
    @settings(max_examples=arguments.requests, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(requests())
    def each(request):
        drawn.append(request)
        prepare(request[1])
        try:
            code, err = call(request[0])
            found[code] += 1
            judge(*request, code, err)
        except BaseException as error:
            wrong.append(f"{request}: {type(error).__name__}: {error}"[:1500])

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ |= {"XDG_CACHE_HOME": f"{folder}-cache", "XDG_DATA_HOME": f"{folder}-data",
                       "XDG_STATE_HOME": f"{folder}-state"}  # fmt: skip
        each()
        step = max(1, len(drawn) // max(1, arguments.outside))
        outside = drawn[::step][: arguments.outside]
        for request in outside:
            prepare(request[1])
            try:
                judge(*request, *call_outside(request[0]))
            except (AssertionError, subprocess.TimeoutExpired) as error:
                wrong.append(f"outside: {request}: {error}"[:1500])
        for leftover in (f"{folder}-cache", f"{folder}-data"):
            shutil.rmtree(leftover, ignore_errors=True)
    for line in wrong:
        print(line)
    codes = dict(sorted(found.items()))
    print(f"{len(drawn)} requests by exit code: {codes}; {len(outside)} of them outside as well; {len(wrong)} wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

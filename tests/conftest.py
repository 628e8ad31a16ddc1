"""What every test gets: no leaks into the process, and short ways to compose and to run a real recipe."""

import contextlib
import copy
import gc
import itertools
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.programs import Programs

# pytest notes the phase of the test; torch sets the folder of its compiler when its first optimizer is made, and an
# address for compiled code when something is compiled; scikit-learn, which Optuna's importances import, sets switches
# of OpenMP when it is imported
_SET_BY_LIBRARIES = {
    "PYTEST_CURRENT_TEST",
    "TORCHINDUCTOR_CACHE_DIR",
    "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR",
    "KMP_DUPLICATE_LIB_OK",
    "KMP_INIT_AT_FORK",
}
_OF_EACH_TEST = {*_SET_BY_LIBRARIES, "XDG_CACHE_HOME", "XDG_DATA_HOME"}
"""Variables that differ between tests; no configuration is composed from them."""
_TESTS = itertools.count()
ROOT = Path(__file__).resolve().parent.parent


def last_of_each(arguments):
    """``arguments``, a recipe that many tests share and what one of them changes in it, as a person would type them."""
    from runner.config.request.exclusive_keys import exclusive_with
    from runner.config.words.override_lines import key_of

    last = {}
    for argument in arguments:
        key = key_of(argument) if "=" in argument else argument
        for rival in exclusive_with(key):
            last.pop(rival, None)
        last[key] = argument
    return list(last.values())


def pytest_collection_modifyitems(items):
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _imports_are_not_collected():
    """What is there by now stays: the garbage collector need not visit it in each of its rounds.

    A training loop does the same, and has everything visited again afterwards.
    """
    if next(_TESTS) % 256 == 0:  # garbage that was frozen with the rest
        gc.unfreeze()
        gc.collect()
    # without asking whether it is: the interpreter counts what is frozen one by one, a tenth of a second a test
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _state_home(tmp_path_factory):
    """Notes on ledgers go to a folder of the tests; those that share a run among them write some as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _programs_are_forked():
    """Programs that tests start are forked from one that has imported torch, where that comes to the same."""
    programs = Programs()
    with programs.forked():
        yield
    programs.close()


@pytest.fixture(scope="session")
def _places(tmp_path_factory):
    """Folders that are made when something is put there, for tests that ask for none."""
    base = tmp_path_factory.mktemp("places")
    return (base / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _nothing_leaks(request, _places):
    """Environment, working folder and torch's switches are as before; caches and ledgers go to its own folder."""
    import torch

    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else next(_places)
    # not the fixture monkeypatch: what a test changes through that is undone only after this one has looked
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        # runs share the cores with other tests: as many threads as torch was told to use (OMP_NUM_THREADS)
        patch.setattr("runner.planning.build.available_cores", torch.get_num_threads)
        before = _process_state()
        with _logging_put_back(), _pillow_put_back():
            yield
        after = _process_state()
        asked = threading.Thread(target=logging.getLogger, args=("asked",), daemon=True)
        asked.start()
        asked.join(timeout=10)
        assert not asked.is_alive(), "the lock of logging is still taken: whatever other thread logs waits for ever"
    changed = {key: (before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)}
    assert not changed, f"left behind: {changed}"


@contextlib.contextmanager
def _logging_put_back():
    """Level and files of the root logger, which Hydra sets for a command, as they were for the next test."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    for handler in list(root.handlers):
        # pytest puts handlers of its own there, others in each phase of a test
        if handler not in handlers and not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)
            handler.close()


@contextlib.contextmanager
def _pillow_put_back():
    """What opens images and limits them, which a data set of torchvision's replaces in its process for good."""
    from PIL import Image

    opens, most = Image.open, Image.MAX_IMAGE_PIXELS
    yield
    Image.open, Image.MAX_IMAGE_PIXELS = opens, most


def _process_state():
    import torch

    return {
        **{key: value for key, value in os.environ.items() if key not in _SET_BY_LIBRARIES},
        "working folder": Path.cwd(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
    }


@pytest.fixture(scope="session")
def composer():
    from runner.config.compose import Composer

    return Composer(caller=ROOT)


@pytest.fixture(scope="session")
def _composed():
    """Request and what else it is composed from -> its configuration: one takes as long as a run of a few steps."""
    return {}


@pytest.fixture
def configure(composer, _composed):
    """configure("key=value", ...) -> a checked RunConfig, as the command line would make it."""
    from runner.config.load import load_config, typed_keys
    from runner.config.rules.rules import check

    def compose(lines):
        composed = composer.compose(lines)
        return load_config(composed, composer.option_defaults(composed), typed_keys=typed_keys(composed.hydra))

    def configure(*overrides):
        lines = tuple(last_of_each(overrides))
        variables = frozenset((key, value) for key, value in os.environ.items() if key not in _OF_EACH_TEST)
        request = lines, Path.cwd(), variables
        if request not in _composed:
            _composed[request] = compose(lines)
        config = copy.deepcopy(_composed[request])
        check(config)
        return config

    return configure


@pytest.fixture
def train(configure, tmp_path):
    """train("key=value", ...) runs a real recipe in this process and returns its folder."""
    from runner.execution.job import run_job

    count = iter(range(1000))

    def train(*overrides, run_dir=None, exit_code=0):
        if run_dir is None:
            run_dir = tmp_path / f"run{next(count)}"
            run_dir.mkdir()
        config = configure("tracker=none", *overrides)
        result = run_job(config, {}, run_dir, None)
        assert result.exit_code == exit_code
        return run_dir

    return train


@pytest.fixture
def command(tmp_path, capsys):
    """command("key=value", ...) -> (exit code, stdout, stderr) of main in this process, in an empty folder."""
    from runner.commands.train import main

    def command(*arguments):
        with contextlib.chdir(tmp_path):
            code = main(last_of_each(arguments))
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def runner(tmp_path):
    """runner("key=value", ...) starts ``python -m runner`` in an empty folder and returns the finished process."""

    def runner(*arguments, timeout=240, **environment):
        return subprocess.run(
            [sys.executable, "-m", "runner", *last_of_each(arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return runner

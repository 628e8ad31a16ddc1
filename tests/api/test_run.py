import contextlib
import copy
import inspect
import logging
import os
import random
import re
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from runner import RequestError, Run, RunError, run
from runner.api import caller
from runner.api.caller import undisturbed
from runner.commands.train import main

TINY = ("model=linear", "tracker=none", "trainer.epochs=1", "hardware=cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path):
    with contextlib.chdir(tmp_path):
        yield tmp_path


def test_a_run_comes_back_as_an_object(folder, capsys):
    one = run(*TINY, seed=3, name="a, b")
    out, err = capsys.readouterr()
    assert out == "", "the result is returned, and not printed as well"
    assert "Epoch 1/1: loss" in err
    assert re.fullmatch(rf"{folder}/outputs/[\d-]+/[\d-]+", str(one.folder)), "that of the command line"
    assert (one.status, one.epsilon, one.privacy) == ("completed", None, None)
    assert 0.5 < one.metrics["test_accuracy"] < 1
    assert (one.config["seed"], one.config["name"], one.config["model"]["_target_"][:7]) == (3, "a, b", "runner.")
    history = one.history()
    assert list(history.kind) == ["train", "val", "test"]
    assert history.accuracy.iloc[-1] == one.metrics["test_accuracy"]
    accuracy = f"{one.metrics['test_accuracy']:.2%}"
    for shown in (repr(one), one._repr_html_()):
        assert "a, b: completed" in shown
        assert accuracy in shown
        assert str(one.folder) in shown
    assert Run.open(one.folder) == one
    assert len(one.model()(np.zeros((1, 8, 8, 1), np.uint8)).classes) == 1


def test_the_same_code_gives_the_same_bits_as_the_command_line(folder, capsys):
    assert main([*TINY, "hydra.run.dir=typed"]) == 0
    assert run(*TINY, **{"hydra.run.dir": "called"}).metrics == Run.open("typed").metrics


@pytest.mark.parametrize(
    ("typed", "values", "said"),
    [
        (["trainer=dpp"], {}, "trainer: got dpp, expected one of"),
        (["seed=1,2"], {}, "seed: got 1,2, expected one value: sweep() runs each, or [a,b] for a list"),
        (["sweep=precision"], {}, "run(): got sweep=precision, expected one run: sweep() takes what asks for several"),
        ([], {"seeds": 2}, "run(): got seeds=2, expected one run"),
        ([], {"seed": 1.5}, "seed: got 1.5, expected a whole number"),
        ([], {"seed": {1}}, "seed: got {1}, expected text, a number, true or false, None, a path, or a list"),
        (
            [{"seed": 1}],
            {},
            "an override: got {'seed': 1}, expected text such as \"trainer=dp\"; a mapping is given as",
        ),
        ([], {"resume": "nowhere"}, "resume: got nowhere, expected the folder of a run"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(folder, typed, values, said):
    with pytest.raises(RequestError, match=re.escape(said)) as raised:
        run(*typed, **values)
    assert "\n" not in str(raised.value)
    assert list(folder.iterdir()) == []


def test_what_the_data_refuses_is_refused_as_well(folder):
    (folder / "photos").mkdir()
    with pytest.raises(RequestError, match=rf"data\.root: got {folder}/photos \(no class folders\)"):
        run("data=image_folder", "data.root=photos", "tracker=none", "hardware=cpu")
    assert [path.name for path in folder.iterdir()] in (["photos"], ["cache", "photos"], ["photos", "cache"])


def test_a_run_that_fails_says_where(folder):
    with pytest.raises(RunError, match=r"optimizer\.lr") as raised:
        run(*TINY, "optimizer.lr=1e30")
    failed = Run.open(raised.value.folder)
    assert failed.status == "failed"
    assert str(failed.folder) in str(raised.value)
    assert "Traceback" in (failed.folder / "run.log").read_text()


def test_a_folder_without_a_run_is_refused(folder):
    with pytest.raises(RequestError, match=r"folder: got \S+, expected the folder of a run, with its run\.json"):
        Run.open(folder)


def test_without_pandas_one_line_names_the_extra(folder, monkeypatch):
    one = run(*TINY, "trainer.steps=1", "trainer.epochs=null")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(RequestError, match=r"expected pip install 'recipe-runner\[pandas\]', for data frames"):
        one.history()


def state():
    """Everything of the process that a run uses and that belongs to its caller."""
    root = logging.getLogger()
    return {
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "timer": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "argv": list(sys.argv),
        "path": list(sys.path),
        "folder": Path.cwd(),
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook),
        "logging": (root.level, list(root.handlers), logging.raiseExceptions, list(logging._handlerList)),
        "hydra": (GlobalHydra.instance(), GlobalHydra.instance().hydra, HydraConfig.instance().cfg),
        "store": copy.copy(ConfigStore.instance().repo.get("schema.yaml")),
        "sweeps": sorted(ConfigStore.instance().repo.get("sweep", {})),
        "random": (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()),
        "torch": (
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.backends.cudnn.benchmark,
            torch.backends.cuda.matmul.allow_tf32,
        ),
    }


def test_the_caller_finds_everything_as_it_was(folder):
    """Inside a function under ``@hydra.main``, with logging and a configuration store of its own."""
    store, config = ConfigStore.instance(), HydraConfig.instance()
    own = logging.FileHandler(folder / "own.log", mode="w")
    logging.getLogger().addHandler(own)
    before_repo, before_cfg = store.repo, config.cfg
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "repo", store.repo | {"sweep": {}})
            store.store(name="schema", node={"mine": 1}, provider="me", replace=True)
            store.store(group="sweep", name="mine", node={"mine": 2}, provider="me")
            patch.setattr(config, "cfg", OmegaConf.create({"hydra": {"mine": 3}}))
            patch.setattr(GlobalHydra.instance(), "hydra", object())
            logging.getLogger().info("before")
            before = state()
            run(*TINY, "deterministic=true")
            with pytest.raises(RequestError):
                run("trainer=dpp")
            after = state()
            logging.getLogger().warning("after")
    finally:
        logging.getLogger().removeHandler(own)
        own.close()
        store.repo, config.cfg = before_repo, before_cfg
    assert {key: after[key] for key in after if after[key] != before[key]} == {}
    assert (folder / "own.log").read_text().splitlines()[-1] == "after"


def test_the_question_notices_what_a_run_changes(folder):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        before = state()
        main([*TINY, "hydra.run.dir=typed"])
        after = state()
    assert {"hydra", "logging", "random"} <= {key for key in after if after[key] != before[key]}


def test_one_run_at_a_time_in_the_main_thread(folder):
    with undisturbed("run"), pytest.raises(RequestError, match="a call while another run is under way, expected one"):
        run(*TINY)
    raised = []

    def call():
        try:
            run(*TINY)
        except RequestError as error:
            raised.append(str(error))

    thread = threading.Thread(target=call, name="other")
    thread.start()
    thread.join()
    assert raised == [
        "run: got a call in the thread other, expected the main thread, which hears Ctrl-C: one run at a time in a"
        " process"
    ]


def test_a_launcher_is_told_what_starts_processes(folder, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match=r"a launcher that starts several processes, expected hardware\.processes=N"):
        run(*TINY)


@contextlib.contextmanager
def pressed(folder, times=1):
    """Ctrl-C once the run below ``folder`` trains."""

    def press():
        while not any(file.stat().st_size for file in folder.glob("outputs/*/*/metrics.jsonl")):
            time.sleep(0.005)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    thread = threading.Thread(target=press)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_leaves_a_run_that_goes_on(folder, capsys):
    with pytest.raises(KeyboardInterrupt), pressed(folder):
        run(*TINY[:2], "trainer.epochs=30", "hardware=cpu")
    said = capsys.readouterr().err.splitlines()[-1]
    (place,) = folder.glob("outputs/*/*")
    assert said == f"interrupted; goes on with: run(resume='{place}')"
    assert Run.open(place).status == "interrupted"
    again = eval(said.removeprefix("interrupted; goes on with: "), {"run": run})
    assert (again.folder, again.status) == (place, "completed")
    assert again.metrics == run(*TINY[:2], "trainer.epochs=30", "hardware=cpu").metrics


def test_who_insists_ends_the_step_and_not_the_process(folder, capsys):
    with pytest.raises(KeyboardInterrupt), pressed(folder, times=2):
        run(*TINY[:2], "trainer.epochs=2000", "hardware=cpu")
    (place,) = folder.glob("outputs/*/*")
    assert Run.open(place).status == "interrupted"


class Closing(logging.Handler):
    """Ctrl-C comes while it is closed."""

    closed = False

    def emit(self, record):
        """Nothing is logged."""

    def close(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        self.closed = True
        super().close()


@pytest.mark.parametrize("waits", [True, False])
def test_ctrl_c_waits_until_the_caller_has_everything_back(monkeypatch, waits):
    """Cut short, logging would keep the handlers of the run, and its lock for ever."""
    handler, root = Closing(), logging.getLogger()
    before = list(root.handlers), signal.signal(signal.SIGINT, signal.default_int_handler)
    if not waits:
        monkeypatch.setattr(caller, "WATCHED", ())
    try:
        with pytest.raises(KeyboardInterrupt), undisturbed("run"):
            root.addHandler(handler)
        assert handler.closed is waits
        assert (root.handlers == before[0]) is waits
    finally:
        root.removeHandler(handler)
        signal.signal(signal.SIGINT, before[1])


def test_the_names_of_the_interface_are_functions_whatever_has_been_imported():
    import runner.execution.job
    import runner.planning.build
    import runner.sweeping.driver

    for name in ("plan", "run", "sweep"):
        function = getattr(runner, name)
        assert callable(function)
        assert "overrides" in inspect.signature(function).parameters
    assert sorted(runner.__all__) == sorted({*runner.__all__, "load_run"})
    assert all(getattr(runner, name) is not None for name in runner.__all__)

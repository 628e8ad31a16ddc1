import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from runner.config.schema import TrackerConfig
from runner.config.words.wandb_variables import ignored_variables
from runner.errors import RunError
from runner.internals.wandb_file import read_wandb_file
from runner.records import wandb_sink
from runner.records.console import SilentConsole
from runner.records.metrics import read_metrics
from runner.records.recorder import Recorder
from runner.records.run_file import FinalMetrics, RunRecord
from runner.records.sink import RunInfo, build_sink
from runner.records.wandb_sink import from_row, to_row

TARGET = "runner.records.wandb_sink.WandbSink"
CONFIG = {"optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}, "data": {"root": None}, "seed": 0}
METRICS = FinalMetrics(train_loss=0.1, test_loss=float("nan"), test_accuracy=0.97)


def record_run(run_dir, *, steps=40, offset=0.0, exit_code=0, run_id=None, mode="offline", first=0, config=None):
    """One whole run with the real W&B; returns the warnings and W&B's identity of the run."""
    warnings = []
    run_dir.mkdir(exist_ok=True)
    config = config or TrackerConfig(target=TARGET, name="wandb", mode=mode, tags=["a", "b"])
    recorder = Recorder(run_dir, [build_sink(config, warn=warnings.append)], SilentConsole())
    info = RunInfo(run_dir=run_dir, name=f"run {offset}", config=CONFIG, group="the sweep", run_id=run_id)
    recorder.start(info, title="", plan_lines=[])
    for step in range(first, steps):
        recorder.write("train", step=step, epoch=step / 10, loss=offset + 1 / (step + 1), accuracy=0.5)
        if step % 10 == 9:  # Three kinds, and equal names, at one step.
            recorder.write("val", step=step, epoch=step / 10, loss=offset + 2.0, accuracy=float("nan"))
            recorder.write("test", step=step, epoch=step / 10, loss=offset + 3.0, note="text")
    recorder.close(RunRecord(name="r", status="completed", metrics=METRICS), exit_code)
    return warnings, recorder.tracker_run_id


def wandb_files(run_dir):
    return sorted(run_dir.glob("wandb/*/*.wandb"))


def test_two_runs_in_one_process_read_back_equal_to_their_files_and_leave_nothing(tmp_path, capfd):
    environment = dict(os.environ)
    children = {process.pid for process in psutil.Process().children(recursive=True)}
    threads = set(threading.enumerate())
    folders = [tmp_path / "0", tmp_path / "1"]
    identities = []
    for number, folder in enumerate(folders):
        warnings, identity = record_run(folder, offset=number * 10.0, exit_code=number)
        assert warnings == []
        identities.append(identity)
    for number, folder in enumerate(folders):
        (file,) = wandb_files(folder)
        run = read_wandb_file(file)
        expected = read_metrics(folder / "metrics.jsonl")
        assert len(expected) == 48
        assert [from_row(row) for row in run.history] == expected
        assert [row["_step"] for row in run.history] == list(range(48))
        assert run.config == CONFIG
        assert (run.run_id, run.name, run.group, run.tags) == (
            identities[number],
            f"run {number * 10.0}",
            "the sweep",
            ("a", "b"),
        )
        assert run.exit_code == number
        final = {"train_loss": 0.1, "val_loss": None, "val_accuracy": None, "test_loss": None, "test_accuracy": 0.97}
        final |= dict.fromkeys(("best_epoch", "test_majority", "test_most_predicted"))
        assert final.items() <= run.summary.items()
    assert identities[0] != identities[1]
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == environment
    assert {process.pid for process in psutil.Process().children(recursive=True)} == children
    assert set(threading.enumerate()) == threads  # No exporter of usage reports either.


def test_a_resumed_run_goes_on_under_its_identity_and_line_numbers(tmp_path):
    _, identity = record_run(tmp_path, steps=7)
    warnings, again = record_run(tmp_path, steps=9, first=7, run_id=identity)
    assert warnings == []
    assert again == identity
    runs = [read_wandb_file(file) for file in wandb_files(tmp_path)]
    assert [run.run_id for run in runs] == [identity, identity]
    rows = [row for run in runs for row in run.history]
    assert sorted(row["_step"] for row in rows) == list(range(9))


def test_the_offline_service_is_told_to_report_nothing_home(tmp_path):
    known = {process.pid for process in psutil.Process().children(recursive=True)}
    sink = wandb_sink.WandbSink(TrackerConfig(), warn=pytest.fail)
    sink.start(RunInfo(run_dir=tmp_path, name="r", config={}))
    (service,) = (process for process in psutil.Process().children(recursive=True) if process.pid not in known)
    assert "--no-observability" in service.cmdline()
    sink.finish({}, 0)


LABELS = {"WANDB_PROJECT": "cats", "WANDB_RUN_GROUP": "mine", "WANDB_TAGS": "x,y", "WANDB_NOTES": "for the paper"}
OTHERS = {"WANDB_MODE": "disabled", "WANDB_DIR": "/nowhere", "WANDB_RUN_ID": "theirs", "WANDB_RESUME": "bogus",
          "WANDB_NAME": "theirs", "WANDB_DISABLED": "true", "WANDB_JOB_TYPE": "theirs"}  # fmt: skip


def test_variables_of_labels_are_honoured_and_the_others_change_nothing(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**LABELS, **OTHERS}.items():
            patch.setenv(name, value)
        warnings, identity = record_run(tmp_path / "0", steps=2, config=TrackerConfig(target=TARGET, name="wandb"))
        assert all(os.environ[name] == value for name, value in {**LABELS, **OTHERS}.items())
    assert warnings == []
    (file,) = wandb_files(tmp_path / "0")
    run = read_wandb_file(file)
    assert (run.project, run.group, run.tags) == ("cats", "mine", ("x", "y"))
    assert (run.run_id, run.name, run.job_type, len(run.history)) == (identity, "run 0.0", "train", 2)


def test_without_that_the_environment_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb_sink, "is_honoured", lambda name: True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_RESUME", "bogus")
        warnings, _ = record_run(tmp_path / "0", steps=2, config=TrackerConfig(target=TARGET, name="wandb"))
    assert warnings or not wandb_files(tmp_path / "0")


@pytest.mark.parametrize(
    ("environ", "note"),
    [
        ({}, None),
        (LABELS | {"WANDB_API_KEY": "k", "WANDB_MODE": "offline", "WANDB_SILENT": "true"}, None),
        ({"WANDB_MODE": "online"}, "WANDB_MODE (tracker.mode=online or tracker.mode=offline)"),
        ({"WANDB_DISABLED": "true", "WANDB_RUN_ID": "a"}, "WANDB_DISABLED (tracker=none), WANDB_RUN_ID (a run goes on"),
        ({"WANDB_SOMETHING_NEW": "1"}, "environment variables: WANDB_SOMETHING_NEW"),
    ],
)
def test_variables_that_are_ignored_are_named(environ, note):
    found = ignored_variables(TrackerConfig(target=TARGET, name="wandb"), environ)
    assert (found is None) if note is None else (note in found)
    assert ignored_variables(TrackerConfig(), environ) is None


def test_what_is_typed_goes_before_the_variables(tmp_path):
    typed = TrackerConfig(target=TARGET, name="wandb", project="dogs", group="typed", tags=["t"])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LABELS.items():
            patch.setenv(name, value)
        record_run(tmp_path / "0", steps=2, config=typed)
    (file,) = wandb_files(tmp_path / "0")
    run = read_wandb_file(file)
    assert (run.project, run.group, run.tags) == ("dogs", "typed", ("t",))


def test_rows_map_back_to_records():
    record = {"step": 3, "epoch": 0.5, "kind": "val", "loss": None, "per/class": 0.5}
    row = to_row(record)
    assert row == {"step": 3, "epoch": 0.5, "kind": "val", "val/loss": None, "val/per/class": 0.5}
    assert from_row({**row, "_step": 1, "_runtime": 0.1}) == record


def test_an_unreachable_server_becomes_an_offline_run(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wandb_sink, "_ANSWER_SECONDS", 5.0)
        patch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        patch.setenv("WANDB_API_KEY", "0" * 40)
        warnings, _ = record_run(tmp_path, mode="online")
    assert len(warnings) == 1
    assert re.match(r"W&B could not start online \(.*\): recording offline", warnings[0])
    expected = read_metrics(tmp_path / "metrics.jsonl")
    assert expected in [[from_row(row) for row in read_wandb_file(file).history] for file in wandb_files(tmp_path)]
    assert "WANDB_SERVICE" not in os.environ


AROUND = """
import os, sys
from pathlib import Path
import wandb
sys.path.insert(0, sys.argv[2])
from test_wandb_tracker import record_run, read_wandb_file, wandb_files
folder = Path(sys.argv[1])
(folder / "around").mkdir()
around = wandb.init(mode="offline", dir=folder / "around", settings=wandb.Settings(silent=True, console="off"))
around.log({"a": 1})
warnings, _ = record_run(folder / "run", steps=5)
around.log({"a": 2})
around.finish()
service = os.environ["WANDB_SERVICE"]
wandb.teardown()
ours, theirs = (read_wandb_file(wandb_files(folder / name)[0]) for name in ("run", "around"))
print(warnings, [row["a"] for row in theirs.history], theirs.exit_code, len(ours.history), ours.exit_code)
"""


def test_a_run_of_the_program_around_goes_on(tmp_path):
    answer = subprocess.run(
        [sys.executable, "-c", AROUND, tmp_path, Path(__file__).parent],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert answer.stdout == "[] [1, 2] 0 5 0\n"


NO_KEY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_wandb_tracker import record_run
warnings, _ = record_run(Path(sys.argv[1]), mode="online")
print(warnings)
"""


def test_online_without_a_key_asks_nothing_on_a_terminal(tmp_path):
    import pty

    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc")}
    master, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", NO_KEY, tmp_path / "run", Path(__file__).parent],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        try:
            assert process.wait(60) == 0  # A question would never be answered.
        finally:
            process.kill()
    shown = os.read(master, 10_000).decode()
    os.close(master)
    assert shown.startswith("['W&B could not start online (")
    assert shown.count("\n") == 1


FULL_DISK = """
import resource, sys, signal
from pathlib import Path
from runner.config.schema import TrackerConfig
from runner.records.sink import RunInfo, build_sink
warnings = []
sink = build_sink(TrackerConfig(target="runner.records.wandb_sink.WandbSink", name="wandb"), warn=warnings.append)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
run_dir = Path(sys.argv[1])
sink.start(RunInfo(run_dir=run_dir, name="r", config={}))
for step in range(2000):
    sink.log({"step": step, "epoch": 0.5, "kind": "train", "loss": 1.0, "text": "x" * 200})
sink.finish({}, 0)
print(len(warnings), *warnings)
"""


def test_records_that_a_full_disk_swallowed_are_noticed(tmp_path):
    answer = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=True, timeout=100
    )
    assert re.match(r"1 (W&B kept \d+ of 2000 records|tracker wandb was switched off)", answer.stdout), answer


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    record_run(folder, steps=400)
    return wandb_files(folder)[0].read_bytes()


def test_records_that_cross_blocks_are_joined(tmp_path, written):
    assert len(written) > 2 * 32 * 1024
    path = tmp_path / "run.wandb"
    path.write_bytes(written)
    assert len(read_wandb_file(path).history) == 400 + 2 * 40


def test_a_torn_end_is_left_out(tmp_path, written):
    path = tmp_path / "run.wandb"
    lengths = []
    for size in range(len(written) // 2, len(written), len(written) // 23):
        path.write_bytes(written[:size])
        run = read_wandb_file(path)
        assert run.exit_code is None
        assert [row["_step"] for row in run.history] == list(range(len(run.history)))
        lengths.append(len(run.history))
    assert lengths == sorted(set(lengths))


def test_damage_is_refused(tmp_path, written):
    path = tmp_path / "run.wandb"
    middle = len(written) // 2
    path.write_bytes(written[:middle] + bytes([written[middle] ^ 1]) + written[middle + 1 :])
    with pytest.raises(RunError, match="damaged at byte"):
        read_wandb_file(path)
    path.write_bytes(b"something else altogether")
    with pytest.raises(RunError, match="not a file of W&B"):
        read_wandb_file(path)

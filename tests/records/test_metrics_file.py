import json
import math
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from runner.errors import RunError
from runner.records.metrics import MetricsWriter, read_metrics, truncate_after


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def write_steps(path, steps):
    writer = MetricsWriter(path)
    for step in steps:
        writer.write("train", step=step, epoch=step / 10, loss=1 / (step + 1))
    writer.close()


def test_a_line_starts_with_step_epoch_and_kind_and_is_strict_json(path):
    writer = MetricsWriter(path)
    returned = writer.write("val", step=np.int64(3), epoch=1.5, loss=math.nan, accuracy=np.float32(0.5))
    writer.close()
    assert path.read_text() == '{"step": 3, "epoch": 1.5, "kind": "val", "loss": null, "accuracy": 0.5}\n'
    assert read_metrics(path) == [returned]


def test_a_record_is_in_the_file_at_once(path):
    writer = MetricsWriter(path)
    for step in range(3):
        writer.write("train", step=step, epoch=0)
        assert len(read_metrics(path)) == step + 1 == writer.count
    writer.close()


def test_an_unknown_kind_is_refused(path):
    writer = MetricsWriter(path)
    with pytest.raises(ValueError, match="kind must be one of train, val, test"):
        writer.write("eval", step=0, epoch=0)
    writer.close()
    assert path.read_bytes() == b""


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_last_line_is_dropped_by_readers_and_cut_off_by_writers(path, cut):
    write_steps(path, range(4))
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    assert [record["step"] for record in read_metrics(path)] == [0, 1, 2]
    write_steps(path, [3])
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (b'{"step": 1, "epo\n', "line 2 is damaged"),
        (b"\x00\x00\xff\n", "line 2 is damaged"),
        (b"[1]\n", "line 2 is not a record"),
        (b'{"step": 1, "epoch": 0}\n', "line 2 is not a record"),
        (b'{"step": 1, "epoch": 0, "kind": "other"}\n', "line 2 is not a record"),
        (b"\n", "line 2 is damaged"),
    ],
)
def test_other_damage_is_refused(path, damage, message):
    write_steps(path, [0])
    path.write_bytes(path.read_bytes() + damage)
    write = path.read_bytes()
    for act in (read_metrics, MetricsWriter, lambda p: truncate_after(p, 0)):
        with pytest.raises(RunError, match=message):
            act(path)
    assert path.read_bytes() == write


def test_truncate_forgets_what_will_be_done_again(path):
    write_steps(path, range(6))
    path.write_bytes(path.read_bytes()[:-3])
    assert truncate_after(path, 3) == 4
    assert [record["step"] for record in read_metrics(path)] == [0, 1, 2, 3]
    assert truncate_after(path, 3, records=3) == 3
    assert [record["step"] for record in read_metrics(path)] == [0, 1, 2]
    assert truncate_after(path.with_name("none"), 3) == 0


def test_a_run_that_resumes_leaves_the_file_of_one_that_did_not_stop(path):
    whole, resumed = path, path.with_name("resumed.jsonl")
    write_steps(whole, range(20))
    write_steps(resumed, range(13))
    kept = truncate_after(resumed, 9)
    write_steps(resumed, range(kept, 20))
    assert resumed.read_bytes() == whole.read_bytes()


KILLED_WRITER = """
import sys
from pathlib import Path
from runner.records.metrics import MetricsWriter
writer = MetricsWriter(Path(sys.argv[1]))
step = writer.count
print("go", flush=True)
while True:
    writer.write("train", step=step, epoch=step / 7, loss=1 / (step + 1), text="x" * (step % 3000))
    step += 1
"""


def test_a_killed_writer_loses_nothing_that_it_wrote(path):
    """Killed at random moments, one writer after another on the same file: no hole, no repeat, no torn line inside."""
    moments = random.Random(0)
    records = 0
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", KILLED_WRITER, path], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            time.sleep(moments.uniform(0.005, 0.06))
            writer.kill()
        found = read_metrics(path)
        assert [record["step"] for record in found] == list(range(len(found)))
        assert len(found) > records
        records = len(found)


FULL_DISK = """
import resource, sys
from pathlib import Path
from runner.errors import RunError
from runner.records.metrics import MetricsWriter
writer = MetricsWriter(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    for step in range(1000):
        writer.write("train", step=step, epoch=0, loss=0.5)
except RunError as error:
    print(error)
"""


def test_a_full_disk_is_a_failure_and_leaves_a_readable_file(path):
    answer = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    found = read_metrics(path)
    assert answer.stdout.startswith(f"metrics.jsonl: cannot record step {len(found)}: ")
    assert [record["step"] for record in found] == list(range(len(found)))
    assert len(found) == 1000 // len(json.dumps(found[-1]) + "\n") > 10


def test_a_record_costs_little(path):
    writer = MetricsWriter(path)
    blocks = []
    for _ in range(20):
        begin = time.process_time()  # Not wall time: other processes may share the core.
        for step in range(200):
            writer.write("train", step=step, epoch=0.5, loss=1 / (step + 1), accuracy=0.5, lr=0.1, grad_norm=1.234)
        blocks.append((time.process_time() - begin) / 200)
    writer.close()
    assert min(blocks) < 30e-6

"""Records, checkpoints and weights from strangers: each ends in one line, or is read as what it is."""

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save

from runner.autotune.cache import keep
from runner.disk import json_files
from runner.disk.json_files import parse_json, read_json
from runner.errors import RequestError, RunError
from runner.models.weights import read_weights
from runner.records import metrics
from runner.records.json_values import write_json
from runner.records.metrics import MetricsWriter, read_metrics
from runner.records.run_file import RunRecord, read_run, write_run
from runner.report.update_checks import read_checks
from runner.report.write import write_report
from runner.sweeping.privacy_file import identify_sweep
from runner.training.checkpointing.checkpoint import load_checkpoint, save_checkpoint, seal

DEEP = b"[" * 200_000
NUMBERS = (b"NaN", b"-Infinity", b"1e999", b"9" * 30, b"-" + b"9" * 5000)


def brief(value):
    """Of what a test is called by: a crafted file may have 200 kB."""
    return repr(value)[:24]


def one_line(error):
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    return str(error.value)


# JSON


@pytest.mark.parametrize("content", [DEEP, *NUMBERS, b"{", b"", b"\xff\xfe", b'{"a": NaN}', b'"\\ud8'], ids=brief)
def test_json_that_is_no_plain_value_is_refused(content):
    with pytest.raises(ValueError, match=r"."):
        parse_json(content)


def test_json_that_is_a_pipe_or_enormous_is_not_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(RunError, match="not an ordinary file"):
        read_run(tmp_path)
    monkeypatch.setattr(json_files, "LARGEST_BYTES", 100)
    (tmp_path / "other.json").write_bytes(b" " * 101)
    with pytest.raises(ValueError, match="101 bytes, more than 100"):
        read_json(tmp_path / "other.json")


# run.json and metrics.jsonl


def record(folder, **changes):
    write_run(folder, RunRecord(name="r", status="completed"))
    found = json.loads((folder / "run.json").read_text())
    for path, value in changes.items():
        *above, last = path.split("__")
        inner = found
        for name in above:
            inner = inner[name]
        inner[last] = value
    (folder / "run.json").write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("steps", "many"), ("steps", True), ("steps", 10**400), ("epochs", [1]), ("metrics", []), ("metrics", None),
        ("metrics__test_accuracy", "0.9"), ("throughput__samples_per_second", {}), ("memory__peak_bytes", 1.5),
        ("notes", [1]), ("notes", 3), ("out_of_memory", ["x"]), ("plan", []), ("started", 5), ("started", "yesterday"),
        ("finished", []), ("seconds", "long"), ("privacy", [1]), ("privacy", {"epsilon": 1}),
        ("step_time", {"steps": 1}),
        ("status", "fine"), ("status", []), ("name", 5), ("error", {}), ("unknown", 1), ("prediction", 5),
    ],
)  # fmt: skip
def test_a_crafted_run_file_is_one_line_wherever_it_is_read(tmp_path, path, value):
    record(tmp_path, **{path: value})
    with pytest.raises(RunError) as refused:
        read_run(tmp_path)
    told = one_line(refused).removeprefix(f"{tmp_path.name}/run.json: ")
    assert told.startswith("unknown status " if path == "status" else "not a record of a run: ")
    with pytest.raises((RunError, RequestError)) as refused:
        write_report(tmp_path)
    one_line(refused)


@pytest.mark.parametrize("content", [DEEP, *NUMBERS, b"[]", b"null", b'{"metrics": 1}'], ids=brief)
def test_a_run_file_that_is_none_is_one_line(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunError) as refused:
        read_run(tmp_path)
    one_line(refused)


GOOD = b'{"step": 1, "epoch": 1.0, "kind": "train", "loss": 0.5}\n'


@pytest.mark.parametrize(
    "line",
    [
        DEEP, *NUMBERS, b"[1]", b'{"step": "1", "epoch": 1, "kind": "train"}',
        b'{"step": 1, "epoch": [], "kind": "val"}',
        b'{"step": 1, "epoch": 1, "kind": []}', b'{"step": 1, "epoch": 1, "kind": "train", "loss": "low"}',
        b'{"step": 1, "epoch": 1, "kind": "train", "loss": NaN}',
        b'{"step": 1, "epoch": 1, "kind": "train", "seconds": [1]}',
    ],
    ids=brief,
)  # fmt: skip
def test_a_crafted_line_of_metrics_is_one_line(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(GOOD + line + b"\n" + GOOD)
    for read in (read_metrics, MetricsWriter):
        with pytest.raises(RunError, match=r"metrics\.jsonl: line 2") as refused:
            read(path)
        one_line(refused)


def test_a_line_without_end_is_not_read_into_memory(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with path.open("wb") as file:
        file.write(GOOD)
        file.truncate(10**9)
    with pytest.raises(RunError, match="line 2 has more than 1,048,576 bytes"):
        read_metrics(path)


def test_without_the_guard_a_crafted_line_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "parse_json", json.loads)
    monkeypatch.setattr(metrics, "_FIGURES", set())
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"step": 1, "epoch": 1, "kind": "train", "loss": NaN}\n{"step": 1, "epoch": 1, "kind": "val", "loss": []}\n'
    )
    assert len(read_metrics(path)) == 2


@pytest.mark.parametrize("content", [DEEP, b"[1]", b"{}", b"[{}]", b'[{"cells": 5}]', *NUMBERS], ids=brief)
def test_the_small_records_of_a_sweep_are_one_line_too(tmp_path, content):
    (tmp_path / "same_update.json").write_bytes(content)
    if content != b"{}":
        with pytest.raises(RunError) as refused:
            read_checks(tmp_path)
        one_line(refused)
    (tmp_path / "privacy.json").write_bytes(content)
    with pytest.raises(RunError) as refused:
        identify_sweep(tmp_path)
    one_line(refused)


@pytest.mark.parametrize(
    "content", [DEEP, b"[]", b'{"version": 3}', b'{"version": 3, "choice": 5}', *NUMBERS], ids=brief
)
def test_a_crafted_choice_is_measured_again(tmp_path, content):
    keep(tmp_path, {"a": 1}, lambda: {"dtype": "float32"})
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(content)
    assert keep(tmp_path, {"a": 1}, lambda: {"dtype": "measured"}) == {"dtype": "measured"}
    forged = {"version": 3, "choice": {"dtype": "forged"}}
    write_json(path, forged)
    path.chmod(0o666)
    assert keep(tmp_path, {"a": 1}, lambda: {"dtype": "measured"}) == {"dtype": "measured"}
    write_json(path, forged)  # the control: the user's own
    assert keep(tmp_path, {"a": 1}, lambda: {"dtype": "measured"}) == {"dtype": "forged"}


# Checkpoints and weights


@pytest.fixture
def checkpoint(tmp_path):
    """A whole checkpoint; forge(name, content) replaces a file and seals the manifest over it, as a stranger would."""
    weights = {"w": torch.zeros(2, 2)}
    path = save_checkpoint(tmp_path / "checkpoints", step=1, best=1, identity="i", recipe={"a": 1}, weights=weights,
                           state={"secret_key": None, "records": 1})  # fmt: skip

    def forge(name, content, **changes):
        manifest = json.loads((path / "manifest.json").read_bytes())
        manifest.pop("digest")
        if name:
            (path / name).write_bytes(content)
            manifest["sha256"][name] = hashlib.sha256(content).hexdigest()
        (path / "manifest.json").write_bytes(seal(manifest | changes))
        return path

    return forge


def safetensors(header, size=16):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


def tensor(dtype="F32", shape=(2, 2), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


CRAFTED_WEIGHTS = {
    "an enormous header": struct.pack("<Q", 2**63 - 1) + b"{}",
    "a header beyond the end": struct.pack("<Q", 10**6) + b"{}",
    "nothing": b"",
    "deep": struct.pack("<Q", 200_000) + DEEP,
    "an unknown type": safetensors({"w": tensor("Q7")}),
    "overlapping": safetensors({"a": tensor(), "b": tensor()}),
    "beyond the end": safetensors({"w": tensor(offsets=(0, 10**12), shape=(10**6, 250_000))}),
    "backwards": safetensors({"w": tensor(offsets=(16, 0))}),
    "a shape that is not its size": safetensors({"w": tensor(shape=(10**9, 10**9))}),
    "a shape that overflows": safetensors({"w": tensor(shape=(2**62, 4, 4))}),
    "a negative shape": safetensors({"w": tensor(shape=(-2, -2))}),
    "a pickle": pickle.dumps({"w": [1]}),
}


@pytest.mark.parametrize("name", CRAFTED_WEIGHTS)
def test_crafted_weights_are_one_line(tmp_path, checkpoint, name):
    with pytest.raises(RunError, match="holds something other than tensors and plain values") as refused:
        load_checkpoint(checkpoint("model.safetensors", CRAFTED_WEIGHTS[name]))
    one_line(refused)
    path = tmp_path / "w.safetensors"
    path.write_bytes(CRAFTED_WEIGHTS[name])
    with pytest.raises(RequestError, match=r"model\.weights: ") as refused:
        read_weights(str(path))
    one_line(refused)


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def compressed(content):
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as into:
        for name in source.namelist():
            into.writestr(name, source.read(name))
    return packed.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"PK", DEEP, saved([1, 2]), saved(5), compressed(saved({"secret_key": torch.zeros(10**6)}))]
)
def test_a_crafted_state_is_one_line(checkpoint, content):
    with pytest.raises(RunError, match="holds something other than tensors and plain values") as refused:
        load_checkpoint(checkpoint("state.pt", content))
    one_line(refused)


def test_a_state_with_code_does_not_run_it(checkpoint, tmp_path, monkeypatch):
    path = checkpoint("state.pt", saved({"secret_key": Payload(tmp_path / "landed")}))
    with pytest.raises(RunError, match="something other than tensors"):
        load_checkpoint(path)
    assert not (tmp_path / "landed").exists()
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **keys: load(*args, **keys | {"weights_only": False}))
    load_checkpoint(path)
    assert (tmp_path / "landed").exists(), "the control: without the guard the code runs"


def test_a_state_without_a_value_says_which(checkpoint):
    state = load_checkpoint(checkpoint("state.pt", saved({"secret_key": None}))).state
    with pytest.raises(RunError, match=r"state\.pt has no ledger_entry"):
        state["ledger_entry"]


@pytest.mark.parametrize(
    "changes",
    [{"step": "1"}, {"best": None}, {"identity": 5}, {"recipe": []}, {"sha256": {}}, {"sha256": 5}, {"format": []}],
)
def test_a_crafted_manifest_is_one_line(checkpoint, changes):
    with pytest.raises(RunError) as refused:
        load_checkpoint(checkpoint(None, None, **changes))
    one_line(refused)


@pytest.mark.parametrize("content", [DEEP, b"[]", b"{}", *NUMBERS], ids=brief)
def test_a_manifest_that_is_none_is_one_line(checkpoint, content):
    path = checkpoint(None, None)
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(RunError, match=r"manifest\.json is damaged"):
        load_checkpoint(path)


def test_a_checkpoint_larger_than_the_memory_is_not_read(checkpoint):
    path = checkpoint(None, None)
    with (path / "state.pt").open("wb") as file:
        file.truncate(2**42)
    with pytest.raises(RunError, match="of memory are free"):
        load_checkpoint(path)


def test_what_was_saved_is_read(checkpoint):
    content = save({"w": torch.ones(3)})
    assert torch.equal(load_checkpoint(checkpoint("model.safetensors", content)).weights["w"], torch.ones(3))

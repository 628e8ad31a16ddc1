import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runner.disk.files import publish_directory, write_bytes, write_text
from runner.records.json_values import write_json


def test_write_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, {"a": float("nan")})
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_a_secret_is_readable_by_its_owner_alone_and_others_follow_the_umask(tmp_path):
    write_bytes(tmp_path / "secret", b"k", mode=0o600)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "open", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o640


FULL_DISK = """
import resource, sys
from pathlib import Path
from runner.disk.files import write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_bytes(Path(sys.argv[1]), b"x" * 5000)
except OSError as error:
    print(type(error).__name__)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    write_bytes(path, b"old")
    answer = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    assert answer.stdout == "OSError\n"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


KILLED_WRITER = """
import sys
from pathlib import Path
from runner.disk.files import write_bytes
print("go", flush=True)
number = 0
while True:
    number += 1
    write_bytes(Path(sys.argv[1]), str(number % 10).encode() * 300_000)
"""


@pytest.mark.parametrize("milliseconds", [30, 61, 97])
def test_a_killed_writer_leaves_a_whole_file(tmp_path, milliseconds):
    path = tmp_path / "state"
    write_bytes(path, b"0" * 300_000)
    with subprocess.Popen([sys.executable, "-c", KILLED_WRITER, path], stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(milliseconds / 1000)
        writer.kill()
    content = path.read_bytes()
    assert len(content) == 300_000
    assert len(set(content)) == 1


def test_publish_directory_replaces_the_whole_folder(tmp_path):
    final = tmp_path / "step-10"
    for content in ("first", "second"):
        temporary = tmp_path / "new"
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / content).write_text(content)
        publish_directory(temporary, final)
    assert [entry.name for entry in (final / "deep").iterdir()] == ["second"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-10"]


def test_publish_directory_syncs_everything_before_the_rename(tmp_path, monkeypatch):
    """A power cut cannot be made here, so the order of the system calls is what can be checked."""
    events = []
    fsync, rename = os.fsync, os.rename

    def named(handle):
        return str(Path(f"/proc/self/fd/{handle}").readlink())

    monkeypatch.setattr(os, "fsync", lambda handle: (events.append(("fsync", named(handle))), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append(("rename", str(b))), rename(a, b)))
    temporary, final = tmp_path / "new", tmp_path / "final"
    (temporary / "deep").mkdir(parents=True)
    (temporary / "deep" / "weights").write_text("w")
    publish_directory(temporary, final)
    rename_at = events.index(("rename", str(final)))
    synced = {path for kind, path in events[:rename_at] if kind == "fsync"}
    assert synced == {str(temporary), str(temporary / "deep"), str(temporary / "deep" / "weights")}
    assert events[rename_at + 1 :] == [("fsync", str(tmp_path))]

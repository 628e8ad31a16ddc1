"""Files that were made to hurt whoever reads them end in one line: too deep, too many, too large, of other types."""

import contextlib
import hashlib
import io
import json
import os
import signal
import time

import pytest
import torch

from runner.config.compose import Composer
from runner.config.request.resume_request import expand_resume
from runner.config.rules import rules
from runner.config.untrusted.foreign_yaml import MOST_VALUES, load_untrusted
from runner.errors import RequestError, RunError
from runner.inference.finished_run import open_run
from runner.privacy.ledger.chain import Chain
from runner.records.metrics import read_metrics
from runner.report.cells import read_sweep
from runner.report.search_records import read_search
from runner.search.study_storage import open_storage
from runner.training.checkpointing.checkpoint import seal
from tests.security.attacks_run_folders import folder
from tests.security.stage import Stage

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(9 * [f'*{before}'])}]\n"
    for before, after in zip("abcdefghi", "bcdefghij", strict=True)
)
YAML = {
    "deep": "a: " + "[" * 10_000 + "]" * 10_000,
    "deep and short": "a: " + "{a: " * 60 + "1" + "}" * 60,
    "many keys": "".join(f"k{number}: 1\n" for number in range(60_000)),
    "too large": "a: '" + "x" * 2**20 + "'",
    "a bomb of aliases": BOMB,
    "an alias inside itself": "a: &a [*a]\n",
    "an alias of nothing": "a: *b\n",
    "an object": "a: !!python/object/apply:os.system [true]\n",
    "bytes": "a: !!binary aGVsbG8=\n",
    "a set": "a: !!set {b}\n",
    "a tag of one's own": "a: !mine b\n",
    "not UTF-8": b"a: \xff\xfe\n",
    "a null byte": b"a: \x00\n",
    "not YAML": "a: [\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "a key twice": "a: 1\na: 2\n",
    "a number alone": "9" * 400,
    "a list as a key": "? [a]\n: 1\n",
}


@pytest.mark.parametrize("content", YAML.values(), ids=YAML)
def test_yaml_is_refused_in_one_line_and_at_once(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    begin = time.process_time()
    with pytest.raises(RequestError) as refusal:
        load_untrusted(path, "sweep")
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500 + len(str(path))
    assert time.process_time() - begin < 2


def test_a_bomb_of_aliases_is_one():
    assert 9 ** len(BOMB.splitlines()) > 1e4 * MOST_VALUES


CYCLES = {
    "of keys": "optimizer:\n  lr: ${optimizer.weight_decay}\n  weight_decay: ${optimizer.lr}\n",
    "of a key": "name: ${name}\n",
    "of groups": "optimizer: {momentum: '${optimizer}'}\n",
}


@pytest.mark.parametrize("content", CYCLES.values(), ids=CYCLES)
def test_values_that_refer_to_themselves(tmp_path, content):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps/mine.yaml").write_text(f"# @package _global_\n{content}")
    composer = Composer(caller=tmp_path)
    with pytest.raises(RequestError) as refusal:
        composer.load(composer.compose(["sweep=mine"]))
    assert "\n" not in str(refusal.value)


LINES = {
    "a mapping": "a: b\n",
    "a number": "- 3\n",
    "a list in a list": "- [seed=1]\n",
    "no key": "- '=3'\n",
    "a flag": "- --config-dir=far\n",
    "two lines in one": '- "seed=1\\nname=x"\n',
    "nothing to take away": "- ~model\n",
}


@pytest.mark.parametrize("content", LINES.values(), ids=LINES)
def test_a_kept_command_line_that_is_none(tmp_path, content):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/overrides.yaml").write_text(content)
    with pytest.raises(RequestError, match=r"^resume") as refusal:
        expand_resume([f"resume={tmp_path}"], multirun=False)
    assert "\n" not in str(refusal.value)


def _set(*path, to):
    def edit(record):
        for name in path[:-1]:
            record = record[name]
        record[path[-1]] = to

    return edit


DEEP = "[" * 100_000 + "]" * 100_000
RECORDS = {
    "deep": lambda text: text.replace('"notes": []', f'"notes": {DEEP}', 1),
    "no object": lambda text: "[]",
    "text": lambda text: "hello",
    "empty": lambda text: "",
    "not UTF-8": lambda text: b"\xff\xfe",
    "a huge number": lambda text: text.replace('"steps": 1', '"steps": 1' + "0" * 5000, 1),
    "not a number": lambda text: text.replace('"seconds": ', '"seconds": NaN, "second": ', 1),
    "no status": lambda text: text.replace('"status"', '"statu"', 1),
}
EDITS = {
    "a list for the plan": _set("plan", to=[1]),
    "text for the metrics": _set("metrics", to="x"),
    "a list for an accuracy": _set("metrics", "test_accuracy", to=[1]),
    "an endless accuracy": _set("metrics", "test_accuracy", to=float("inf")),
    "text for the classes": _set("plan", "classes", to=5),
    "a number for a class": _set("plan", "classes", to=[1, 2]),
    "text for a size": _set("plan", "semantic", "data", "image_size", to="8"),
    "a number for a name": _set("plan", "name", to=3),
    "options of no mapping": _set("plan", "semantic", "model", "options", to=[1]),
    "no semantic part": _set("plan", "semantic", to=None),
    "an unknown field": _set("plan", "performance", "port", to=1),
}


def refusal_of(run):
    out = io.StringIO()
    with contextlib.redirect_stderr(out), pytest.raises((RequestError, RunError)) as refusal:
        open_run(run)
    line = str(refusal.value)
    assert "\n" not in line
    assert out.getvalue() == ""
    return line


@pytest.mark.parametrize("edit", RECORDS.values(), ids=RECORDS)
def test_a_record_that_is_none(tmp_path, edit):
    run = folder(Stage(tmp_path))
    text = (run / "run.json").read_text()
    edited = edit(text)
    assert edited != text
    (run / "run.json").write_bytes(edited if isinstance(edited, bytes) else edited.encode())
    assert refusal_of(run).startswith("run: ")


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_record_of_other_types(tmp_path, edit):
    run = folder(Stage(tmp_path))
    record = json.loads((run / "run.json").read_text())
    edit(record)
    (run / "run.json").write_text(json.dumps(record))
    assert refusal_of(run).startswith("run: ")


MANIFESTS = {
    "deep": lambda manifest: DEEP.encode(),
    "a list": lambda manifest: b"[]",
    "no format": lambda manifest: seal({key: value for key, value in manifest.items() if key != "format"}),
    "no sums": lambda manifest: seal(manifest | {"sha256": None}),
    "sums of nothing": lambda manifest: seal(manifest | {"sha256": {}}),
    "no step": lambda manifest: seal({key: value for key, value in manifest.items() if key != "step"}),
    "a step of text": lambda manifest: seal(manifest | {"step": "1"}),
    "not UTF-8": lambda manifest: b"\xff\xfe",
}


@pytest.mark.parametrize("edit", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_is_none(tmp_path, edit):
    run = folder(Stage(tmp_path))
    path = next(run.glob("checkpoints/step_*/manifest.json"))
    manifest = json.loads(path.read_text())
    manifest.pop("digest")
    path.write_bytes(edit(manifest))
    assert refusal_of(run).startswith("checkpoint: ")


def test_a_state_without_what_a_state_holds(tmp_path):
    run = folder(Stage(tmp_path))
    path = next(run.glob("checkpoints/step_*/manifest.json"))
    for state in ([], {}):
        torch.save(state, path.parent / "state.pt")
        manifest = json.loads(path.read_text())
        manifest.pop("digest")
        manifest["sha256"]["state.pt"] = hashlib.sha256((path.parent / "state.pt").read_bytes()).hexdigest()
        path.write_bytes(seal(manifest))
        assert refusal_of(run).startswith("checkpoint")


@contextlib.contextmanager
def seconds(count):
    """Whoever waits for a pipe is woken by an error."""

    def wake(*_):
        raise TimeoutError("it waits for a pipe")

    before = signal.signal(signal.SIGALRM, wake)
    signal.alarm(count)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _resume(run):
    expand_resume([f"resume={run}"], multirun=False)


def _compose(run):
    composer = Composer(caller=run)
    composer.load(composer.compose(["sweep=mine"]))


PIPES = {
    "run.json": open_run,
    ".hydra/config.yaml": open_run,
    "checkpoints/best/manifest.json": open_run,
    "checkpoints/best/model.safetensors": open_run,
    "checkpoints/best/state.pt": open_run,
    ".hydra/overrides.yaml": _resume,
    "sweeps/mine.yaml": _compose,
    "metrics.jsonl": lambda run: read_metrics(run / "metrics.jsonl"),
    "trials.csv": lambda run: read_search(read_sweep(run)),
    "mine.journal": lambda run: open_storage(str(run / "mine.journal")),
    "mine.db": lambda run: open_storage(f"sqlite:///{run}/mine.db"),
    "mine.jsonl": lambda run: Chain(run / "mine.jsonl", "x").read(),
}


@pytest.mark.parametrize("name", PIPES)
def test_a_pipe_is_not_waited_for(name, tmp_path):
    run = folder(Stage(tmp_path))
    path = run / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with seconds(20), pytest.raises((RequestError, RunError, OSError)) as refusal:
        PIPES[name](run)
    assert not isinstance(refusal.value, TimeoutError)
    assert "\n" not in str(refusal.value)


def test_weights_that_are_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "weights")
    composer = Composer(caller=tmp_path)
    config = composer.load(composer.compose([f"model.weights={tmp_path / 'weights'}"]))
    with seconds(20), pytest.raises(RequestError, match=r"^model\.weights.*not a file"):
        rules.check(config)

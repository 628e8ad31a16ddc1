"""``python -m runner runs``: every run and sweep below a folder is listed, damaged ones too, from their own files."""

import json
import os
import subprocess
import sys

import pytest

from runner.commands.runs import main
from runner.records.document import Heading, Paragraph
from runner.records.run_file import FinalMetrics, PrivacySpent, RunRecord, read_run, write_run
from runner.records.sweep_cells import write_cells
from runner.report.document import MARKDOWN_FILE, to_markdown
from runner.report.run_list import list_runs
from tests.conftest import ROOT
from tests.report.sweep_folders import write_search, write_sweep

SPENT = PrivacySpent(
    epsilon=1.1,
    delta=1e-5,
    noise_multiplier=1.0,
    max_grad_norm=1.0,
    sample_rate=0.1,
    steps=10,
    accountant="prv",
    adjacency="add or remove one",
)


def write(folder, typed="", *, day=1, status="completed", accuracy=0.9, **fields):
    """A run as the runner leaves it."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(typed.split()))
    metrics = FinalMetrics(test_accuracy=accuracy)
    started = f"2026-11-{day:02}T12:00:00.000+00:00"
    write_run(folder, RunRecord(name=folder.name, status=status, metrics=metrics, started=started, **fields))


@pytest.fixture
def tree(tmp_path):
    """Runs and sweeps of every kind, not in the order of their time."""
    write(tmp_path / "a" / "b", "trainer=dp privacy.epsilon=1.1", day=9, privacy=SPENT)
    write(tmp_path / "void", "trainer=dp", day=8, privacy=SPENT, void="two images of one person")
    write(tmp_path / "plain", "optimizer=adam 'x", day=2)
    write(tmp_path / "gone", day=3, status="failed", accuracy=None, error="out of memory")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text('{"name": ')
    write_sweep(
        tmp_path / "sweep",
        [
            ("precision=fp32 seed=0", 0.91),
            ("precision=fp32 seed=1", 0.92),
            ("precision=fp16 seed=0", 0.95),
            ("precision=fp16 seed=1", "failed", {"error": "it broke"}),
        ],
    )
    (tmp_path / "elsewhere").symlink_to(tmp_path / "a")
    return tmp_path


@pytest.fixture
def listed(tree, capsys, monkeypatch):
    """listed(flags, columns) -> exit code, standard output and error."""

    def listed(*flags, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TZ", "UTC")
        return (main([str(tree), *flags]), *capsys.readouterr())

    return listed


def test_every_run_and_sweep_is_listed_once(tree):
    found = {run.folder: run for run in list_runs(tree).runs}
    assert set(found) == {"a/b", "void", "plain", "gone", "damaged", "sweep"}
    assert found["sweep"].cells == 4
    assert found["sweep"].statuses == {"completed": 3, "failed": 1}
    assert found["sweep"].typed == ("precision=fp32,fp16", "seed=0,1")
    assert (found["sweep"].metric, found["sweep"].value) == ("test_accuracy", 0.95)
    assert found["sweep"].best == ("precision=fp16", "seed=0")
    assert found["sweep"].error == "3: it broke"
    assert (found["a/b"].epsilon, found["void"].epsilon, found["void"].private) == (1.1, None, True)
    assert found["damaged"].statuses == {"unreadable": 1}


@pytest.mark.parametrize("columns", [80, 160])
def test_the_table(listed, columns):
    code, page, err = listed(columns=columns)
    assert (code, err) == (0, "")
    lines = page.splitlines()
    assert max(map(len, lines)) <= columns
    rows = {line.split("  ")[-1].strip() if columns == 80 else line.split()[-1]: line for line in lines}
    whole = " ".join(page.split())
    order = [whole.index(f" {name} ") for name in ("plain", "gone", "void", "a/b")]
    assert order == sorted(order)  # the newest last
    assert "2026-11-09 12:00 completed 90.00% test 1.10 a/b" in whole  # and not 1.11
    assert "trainer=dp privacy.epsilon=1.1" in whole
    assert "90.00% test void void" in whole
    assert "ε is void: two images of one person" in whole
    assert "3 of 4 done best 95.00% test - sweep" in whole
    assert "sweep of 4 runs, 1 failed: precision=fp32,fp16 seed=0,1" in whole
    assert "unreadable - - damaged" in whole
    assert "damaged/run.json: not a record of a run" in whole
    assert rows


def test_what_was_found_with_a_loss_alone_is_told_as_a_loss(tmp_path, capsys):
    write(tmp_path / "x", accuracy=None)
    record = read_run(tmp_path / "x")
    write_run(tmp_path / "x", RunRecord(**{**vars(record), "metrics": FinalMetrics(val_loss=0.51234)}))
    assert main([str(tmp_path)]) == 0
    assert "0.5123 val loss" in capsys.readouterr().out


def test_the_verdict_is_that_of_the_report_until_a_run_goes_on(tree, listed):
    verdict = "In test accuracy, against fp32: fp16 is [not] *equivalent* within 0.5 pp."
    report = to_markdown([Heading(1, "Sweep sweep"), Paragraph(verdict, lead=True), Paragraph("More.")])
    (tree / "sweep" / MARKDOWN_FILE).write_text(report)
    (sweep,) = [run for run in list_runs(tree).runs if run.cells]
    assert sweep.verdict == verdict
    assert f"verdict: {verdict[:30]}" in listed()[1]
    newest = tree / "sweep" / "0" / "run.json"
    os.utime(newest, ns=(2**62, 2**62))
    (sweep,) = [run for run in list_runs(tree).runs if run.cells]
    assert sweep.verdict is None


def test_the_best_trial_of_a_search_is_not_chosen_by_test_figures(tmp_path):
    write_search(tmp_path, [0.5, 0.7])
    (search,) = list_runs(tmp_path).runs
    assert (search.metric, search.best) == (None, ()), "these trials have no other"
    (tmp_path / "trials.csv").unlink()
    (grid,) = list_runs(tmp_path).runs
    assert grid.metric == "test_accuracy"


def test_cells_that_have_not_started_are_counted_and_strangers_are_runs(tree):
    asked = {"0": ["seed=0"], "1": ["seed=1"], "7": ["seed=7"]}
    write_cells(tree / "sweep", asked)
    found = {run.folder: run for run in list_runs(tree / "sweep").runs}
    assert set(found) == {".", "sweep/2".removeprefix("sweep/"), "3"}
    assert found["."].statuses == {"completed": 2, "not_started": 1}
    assert found["."].typed == ("seed=0,1,7",)


@pytest.mark.parametrize(
    ("flags", "folders"),
    [
        ((), ["plain", "gone", "void", "a/b"]),
        (("--status", "completed"), ["plain", "void", "a/b"]),
        (("--status", "failed"), ["gone"]),
        (("--limit", "1"), []),
        (("--status", "completed", "--limit", "2"), ["a/b"]),
    ],
)
def test_filters(listed, flags, folders):
    code, out, _ = listed("--json", "-", *flags)
    names = [run["folder"] for run in json.loads(out)]
    assert code == 0
    assert [name for name in names if name not in ("sweep", "damaged")] == folders
    if "--limit" in flags:
        assert len(names) == int(flags[-1])


def test_as_json(listed, tree):
    code, out, _ = listed("--json", str(tree / "list.json"), "--status", "failed")
    assert code == 0
    assert "sweep" in out
    gone, sweep = json.loads((tree / "list.json").read_text())
    assert gone["statuses"] == {"failed": 1}
    assert gone["error"] == "out of memory"
    assert sweep["best"] == ["precision=fp16", "seed=0"]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["nowhere"], "error: DIR: got nowhere (no such folder), expected a folder with runs\n"),
        (["--status", "faild"], "; did you mean failed?\n"),
        (["--limit", "0"], "error: --limit: got 0, expected a whole number, at least 1\n"),
        (["--limit", "few"], "error: --limit: got few, expected a whole number\n"),
        (["--json", "no/such/x.json"], "error: --json: got no/such/x.json, expected a file that can be written"),
        (["a", "b"], "error: b: got one word too many, expected [--status STATUS] [--limit N]"),
    ],
)
def test_wrong_requests(tmp_path, monkeypatch, capsys, flags, line):
    monkeypatch.chdir(tmp_path)
    assert main(flags) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err
    assert err.count("\n") == 1


def test_without_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    assert capsys.readouterr().out == "no runs in outputs\n"


@pytest.mark.parametrize("damage", ["", "[]", "null", "{}", '{"name": "\x1b[2J"}', "[" * 9999])
def test_a_damaged_record_is_named(tmp_path, capsys, damage):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "run.json").write_text(damage)
    assert main([str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "unreadable" in out
    assert "x/run.json" in out
    assert "\x1b" not in out


def test_names_that_would_garble_a_terminal_are_escaped(tmp_path, capsys):
    write(tmp_path / "a\x1b[2Jb", "name=\x1b[31m")
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"a\x1b[2Jb" in out


def test_the_list_imports_no_torch_and_nothing_slow(tree):
    ask = (
        "import sys; from runner.commands.runs import main; code = main(sys.argv[1:]);"
        "slow = ('torch', 'numpy', 'scipy', 'matplotlib', 'hydra', 'rich');"
        "print([name for name in slow if name in sys.modules], code)"
    )
    words = [sys.executable, "-c", ask, str(tree), "--limit", "1"]
    ended = subprocess.run(words, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[] 0"

"""Private runs of versions whose augmentation and dropout went by the place in the batch: void, and not resumed."""

import dataclasses
import functools
import json
import shutil

import pytest
from omegaconf import OmegaConf

from runner.commands.ledger import main as ledger_main
from runner.commands.report import main as report_main
from runner.errors import RequestError
from runner.execution.job import run_job
from runner.inference.evaluation import infer
from runner.inference.finished_run import open_run
from runner.inference.request import read_request
from runner.planning.plan import identity_of
from runner.privacy.accounting.sweep_epsilon import Terms, admit, spending_of
from runner.privacy.ledger.ledger import Ledger, compose_entries
from runner.records.console import result_rows
from runner.records.csv_table import from_csv
from runner.records.run_file import read_run
from runner.records.sweep_table import write_table
from runner.records.sweep_table_text import render_table
from runner.sweeping.privacy_file import render_spending, write_spending
from runner.training.checkpointing.checkpoint import seal
from tests.privacy.test_ledger import RUN

RECIPE = ("trainer=dp", "data.limit=60", "data.batch_size=16", "model=linear", "trainer.epochs=1",
          "privacy.noise_multiplier=1", "privacy.grad_sample=ghost", "hardware.threads=1")  # fmt: skip


def aged(run_dir, *, flip):
    """The folder as an earlier version left it, with or without augmentation; its identity."""
    file = run_dir / "run.json"
    run = json.loads(file.read_text())
    semantic = run["plan"]["semantic"]
    semantic["privacy"].pop("draws", None)
    run.pop("void", None)
    semantic["data"]["augment"]["flip"] = flip
    run["plan"]["identity"] = identity_of(semantic)
    file.write_text(json.dumps(run))
    for manifest_file in (run_dir / "checkpoints").glob("step_*/manifest.json"):
        manifest = json.loads(manifest_file.read_text())
        del manifest["digest"]
        manifest["recipe"]["privacy"].pop("draws", None)
        manifest_file.write_bytes(seal(manifest | {"identity": run["plan"]["identity"]}))
    return run["plan"]["identity"]


@pytest.fixture
def private_run(composer, train, tmp_path):
    """The folder of a private run as the command line leaves it."""
    composed = composer.compose(list(RECIPE))
    run_dir = train(*RECIPE)
    (run_dir / ".hydra").mkdir()
    own = [str(key) for key in composed if key != "hydra"]
    OmegaConf.save(OmegaConf.masked_copy(composed, own), run_dir / ".hydra" / "config.yaml")
    (run_dir / ".hydra" / "overrides.yaml").write_text(json.dumps(RECIPE))
    return run_dir


@pytest.fixture
def earlier(ledger_with):
    """Two entries of the first format in one ledger."""
    return ledger_with(RUN, dataclasses.replace(RUN, name="second", folder="elsewhere"))


@pytest.fixture
def ledger_with(tmp_path):
    """ledger_with(run, ...) -> a ledger whose start lines are of the first format."""

    def ledger_with(*runs, sweep=None):
        ledger = Ledger(tmp_path / "ledger", "a" * 64)
        ledger.folder.mkdir(exist_ok=True)
        for run in runs:
            told = dataclasses.asdict(run) | {"sweep": sweep}
            del told["draws"]
            with ledger._chain.appending() as file:
                entry = f"{len(file.lines):032x}"
                file.append({"kind": "start", "entry": entry, "time": "2026-11-01T10:00:00+00:00", "format": 1, **told})
                file.append({"kind": "end", "entry": entry, "time": "2026-11-01T11:00:00+00:00", "status": "completed",
                             "steps": run.steps, "epsilon": run.epsilon})  # fmt: skip
        return ledger

    return ledger_with


def test_a_checkpoint_of_before_is_refused_by_the_draws(train, configure):
    run_dir = train(*RECIPE)
    aged(run_dir, flip=False)
    run = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps(run | {"status": "running"}))
    with pytest.raises(RequestError, match="trainer: got augmentation and dropout by the example, expected"):
        run_job(configure("tracker=none", *RECIPE), {}, run_dir, None)


def test_a_void_epsilon_is_shown_nowhere(private_run, tmp_path, capsys):
    sweep = tmp_path / "sweep"
    run_dir = shutil.copytree(private_run, sweep / "0", symlinks=True)
    number = read_run(run_dir).privacy.epsilon
    assert "ε=" in str(open_run(run_dir).privacy)
    aged(run_dir, flip=False)
    assert read_run(run_dir).privacy.epsilon == number
    aged(run_dir, flip=True)
    record, run = read_run(run_dir), open_run(run_dir)
    assert record.privacy.epsilon is run.privacy.epsilon is None
    for said in (record.void, run.privacy.void):
        assert said.startswith("augmentation (flip) drew by the place in the batch and the public seed")
    assert str(run.privacy) == f"void: {run.privacy.void}"
    assert dict(result_rows(record))["privacy"] == f"void: {record.void}"
    output = tmp_path / "results"
    infer(read_request([f"run={run_dir}", f"output={output}", "threads=1"]))
    told = json.loads((output / "inference.json").read_text())
    assert (told["privacy"]["epsilon"], told["privacy"]["void"]) == (None, run.privacy.void)
    assert f"privacy void: {run.privacy.void}" in told["notes"]
    assert {row["epsilon"] for row in from_csv((output / "predictions.csv").read_text())} == {"void"}
    table = write_table(sweep)
    assert table.rows[0]["epsilon"] == "void"
    assert "void" in render_table(table, 200)
    assert report_main([str(sweep)]) == 0
    capsys.readouterr()
    report = (sweep / "report.md").read_text()
    assert "void: augmentation (flip) drew" in report
    assert "no privacy" not in report
    assert "VOID: the ε that this run reported does not hold" in report
    assert f"{number:.2f}" not in report


def test_old_lines_verify_and_count_as_void_until_their_record_shows_otherwise(
    private_run, ledger_with, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    kept = shutil.copytree(private_run, tmp_path / "kept", symlinks=True)
    drew = shutil.copytree(private_run, tmp_path / "drew", symlinks=True)
    runs = [
        dataclasses.replace(RUN, name="kept", folder="kept", identity=aged(kept, flip=False)),
        dataclasses.replace(RUN, name="drew", folder="drew", identity=aged(drew, flip=True)),
        dataclasses.replace(RUN, name="gone", folder="gone"),
        dataclasses.replace(RUN, name="other", folder="kept", identity="2" * 64),
    ]
    ledger = ledger_with(*runs)
    ledger.begin(dataclasses.replace(RUN, name="today", folder="today"))
    assert ledger.verify() == (9, False)
    entries = {entry.planned.name: entry for entry in ledger.entries()}
    assert entries["kept"].void is entries["today"].void is None
    assert entries["drew"].void.startswith("augmentation (flip) drew")
    for name in ("gone", "other"):
        assert entries[name].void.startswith("recorded before ledgers said how a run drew, and its record is not in ")
    assert compose_entries([entries["kept"], entries["today"]]).epsilon < 5
    composed = compose_entries(entries.values())
    assert composed.epsilon == float("inf")
    assert [reason.split(" ")[0] for reason in composed.void] == ["drew", "gone", "other"]


def test_the_ledger_says_void_in_the_place_of_the_sum(earlier, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    folder = str(earlier.folder)
    assert ledger_main(["verify", "--dir", folder]) == 0
    assert "4 lines, whole" in capsys.readouterr().out
    assert ledger_main(["--dir", folder]) == 0
    shown = capsys.readouterr().out
    assert "publishing all private runs: no bound is known, for the ε of 2 runs is void" in shown
    assert "void: second (2026-11-01T10:00): recorded before ledgers said how a run drew" in shown
    assert "3.00" not in shown


def test_a_sweep_with_an_old_cell_has_no_bound_and_no_limit_is_kept(ledger_with, tmp_path):
    sweep_dir = tmp_path / "sweep"
    sweep_dir.mkdir()
    (sweep_dir / "privacy.json").write_text(json.dumps({"sweep": "s"}))
    ledger = ledger_with(RUN, sweep="s")
    (spent,) = write_spending(sweep_dir, [ledger.folder], ordinary=0)
    assert [spent] == spending_of("s", [ledger])
    (told,) = json.loads((sweep_dir / "privacy.json").read_text())["data"]
    assert told["publish_all"]["epsilon"] is told["publish_best"]["epsilon"] is told["cells"][0]["epsilon"] is None
    assert told["void"] == [f"run (2026-11-01T10:00): {told['cells'][0]['void']}"]
    assert "no bound is known\n  void: run (2026" in render_spending([spent], ordinary=0)
    cell = dataclasses.replace(RUN, sweep="s")
    with pytest.raises(RequestError, match=r"all compose to no known bound \(void: run .* expected at most 8"):
        ledger.begin(cell, admit=functools.partial(admit, Terms(limit=8.0), cell))

"""Runs as the ledger tells them: what counts after an end, a kill, a resume; and who may not start."""

import dataclasses
import functools
import re

import pytest

from runner.errors import RequestError, RunError
from runner.execution.ledger_entry import shown_folder
from runner.privacy.accounting.sweep_epsilon import Terms, admit, spending_of
from runner.privacy.ledger.chain import BrokenChain
from runner.privacy.ledger.ledger import (
    Ledger,
    PlannedRun,
    compose_entries,
    contents_of,
    find_ledgers,
    ledger_folder,
)

RUN = PlannedRun(
    data="digits", examples=1000, identity="1" * 64, name="run", folder="outputs/run", sweep=None, private=True,
    sample_rate=0.02, noise_multiplier=1.311, steps=1500, delta=1e-5, epsilon=3.0, accountant="pld",
    adjacency="add or remove one training example", sampling="Poisson", validation="private",
)  # fmt: skip


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger", "a" * 64)


def cell(**changes):
    return dataclasses.replace(RUN, sweep="s", **changes)


def test_a_run_stands_in_the_ledger_before_its_first_step(ledger):
    ledger.begin(RUN)
    (entry,) = ledger.entries()
    assert entry.planned == RUN
    assert (entry.status, entry.steps, entry.epsilon) == ("running", 1500, 3.0)


def test_an_ended_run_counts_with_the_steps_it_did(ledger):
    session = ledger.begin(RUN)
    session.steps = 700
    session.end("interrupted")
    (entry,) = ledger.entries()
    assert (entry.status, entry.steps) == ("interrupted", 700)
    assert entry.epsilon == pytest.approx(2.00, abs=0.01)
    assert compose_entries([entry]).epsilon == pytest.approx(entry.epsilon)


def test_a_pruned_run_counts_with_all_it_planned(ledger):
    session = ledger.begin(RUN)
    session.steps = 700
    session.end("pruned", 3.0)
    (entry,) = ledger.entries()
    assert (entry.status, entry.steps, entry.epsilon) == ("pruned", 1500, 3.0)
    assert compose_entries([entry]).epsilon == pytest.approx(3.0, abs=0.01)


def test_a_resumed_run_is_one_entry_and_replayed_steps_count_once(ledger):
    first = ledger.begin(RUN)
    first.steps = 700
    first.evaluate()
    first.end("interrupted")
    second = ledger.begin(RUN, entry=first.entry, step=600)
    second.steps = 700
    second.evaluate()
    second.steps = 1500
    second.end("completed", 3.0)
    (entry,) = ledger.entries()
    assert (entry.status, entry.steps, entry.epsilon) == ("completed", 1500, 3.0)
    assert entry.evaluated == {700}


def test_going_back_to_an_older_checkpoint_does_not_give_privacy_back(ledger):
    first = ledger.begin(RUN)
    first.steps = 700
    first.end("interrupted")
    second = ledger.begin(RUN, entry=first.entry, step=100)
    second.steps = 200
    second.end("interrupted")
    assert ledger.entries()[0].steps == 700


def test_a_killed_session_counts_in_full_whatever_came_after(ledger):
    killed = ledger.begin(RUN)
    again = ledger.begin(RUN, entry=killed.entry, step=100)
    again.steps = 200
    again.end("interrupted")
    assert ledger.entries()[0].steps == 1500


def test_a_run_from_another_machine_gets_an_entry(ledger):
    ledger.begin(RUN, entry="f" * 32, step=900)
    assert [(entry.id, entry.steps) for entry in ledger.entries()] == [("f" * 32, 1500)]


def test_a_run_of_another_recipe_does_not_go_on_under_an_entry(ledger):
    first = ledger.begin(RUN)
    with pytest.raises(RequestError, match="run is there under the entry of this run"):
        ledger.begin(dataclasses.replace(RUN, identity="2" * 64, noise_multiplier=0.1), entry=first.entry, step=3)
    assert ledger.verify() == (1, False)


def test_public_validation_data_are_not_noted(ledger):
    session = ledger.begin(dataclasses.replace(RUN, validation="public"))
    session.evaluate()
    assert ledger.entries()[0].evaluated == set()


def test_a_run_that_is_not_private_has_no_part_in_the_sum(ledger):
    ledger.begin(dataclasses.replace(RUN, private=False, noise_multiplier=0.01))
    assert compose_entries(ledger.entries()) is None
    ledger.begin(RUN)
    assert compose_entries(ledger.entries()).epsilon == pytest.approx(3.0, abs=0.01)


def test_the_sum_is_at_the_smallest_delta_and_by_rdp_only_when_all_runs_are(ledger):
    ledger.begin(dataclasses.replace(RUN, accountant="rdp", delta=1e-6))
    assert compose_entries(ledger.entries()).accountant == "rdp"
    ledger.begin(RUN)
    composed = compose_entries(ledger.entries())
    assert (composed.accountant, composed.delta) == ("pld", 1e-6)


def test_a_cell_that_would_pass_the_sweeps_limit_leaves_no_trace(ledger):
    ledger.begin(dataclasses.replace(RUN, sweep="another"))
    for _ in range(2):
        ledger.begin(cell(), admit=functools.partial(admit, Terms(limit=5.0), cell()))
    before = ledger.entries()
    with pytest.raises(RequestError) as refusal:
        ledger.begin(cell(), admit=functools.partial(admit, Terms(limit=5.0), cell()))
    assert refusal.value.key == "privacy.sweep_epsilon"
    assert re.search(r"compose to ε=5\.\d\d \(pld, δ=1e-05\), expected at most 5; 4\.\d\d is spent by 2 cells",
                     str(refusal.value))  # fmt: skip
    assert ledger.entries() == before
    cheap = cell(noise_multiplier=20.0)
    ledger.begin(cheap, admit=functools.partial(admit, Terms(limit=5.0), cheap))


def test_a_cell_that_goes_on_was_admitted_before(ledger):
    session = ledger.begin(cell())

    def refuse(entries, lines):
        raise AssertionError

    ledger.begin(cell(), entry=session.entry, step=3, admit=refuse)


def test_what_a_sweep_spent_by_data_set(tmp_path, ledger):
    other = Ledger(ledger.folder, "b" * 64)
    ledger.begin(cell())
    ledger.begin(RUN)
    other.begin(cell(data="mnist"))
    other.begin(cell(data="mnist", private=False)).evaluate()
    found = spending_of("s", find_ledgers(ledger.folder))
    assert [(one.data, len(one.cells), len(one.public), one.uncovered) for one in found] == [
        ("digits", 1, 0, 0),
        ("mnist", 2, 1, 1),
    ]


@pytest.mark.parametrize("folder", ["/proc/ledger", "file/ledger"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError) as refusal:
        Ledger(ledger_folder(folder), "a" * 64).begin(RUN)
    assert refusal.value.key == "privacy.ledger_dir"


def test_a_broken_ledger_takes_no_run_and_no_end(ledger):
    session = ledger.begin(RUN)
    (file,) = ledger.folder.glob("*.jsonl")
    file.write_text(file.read_text().replace('"steps":1500', '"steps":1'))
    with pytest.raises(BrokenChain, match="line 1 was edited"):
        ledger.entries()
    with pytest.raises(RequestError, match=r"privacy\.ledger_dir: got .*line 1 was edited"):
        ledger.begin(RUN)
    with pytest.raises(RunError, match="line 1 was edited"):
        session.end("completed", 3.0)


def test_a_line_of_a_later_version_is_not_ignored(ledger):
    ledger.begin(RUN)
    with ledger._chain.appending() as file:
        file.append({"kind": "audit", "entry": "x"})
    with pytest.raises(BrokenChain, match="line 2 is of a kind"):
        ledger.entries()


def test_places(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert str(ledger_folder(None)) == "/data/recipe-runner/ledger"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(ledger_folder(None)) == "/home/ada/.local/share/recipe-runner/ledger"
    assert str(ledger_folder("~/ledger")) == "/home/ada/ledger"
    monkeypatch.chdir(tmp_path)
    assert shown_folder(tmp_path / "outputs" / "1") == "outputs/1"
    assert shown_folder(tmp_path.parent / "secret" / "1") == "1"
    assert contents_of("a" * 64) == "a" * 64
    assert re.fullmatch("[0-9a-f]{64}", contents_of("../own name"))

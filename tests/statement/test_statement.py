"""The privacy statement: what a page says of hand-made records word for word, and that real runs leave it behind."""

import json
import math
import shutil
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.api.start_sweep import _renew_statements
from runner.commands.report import main as report
from runner.errors import RunError
from runner.execution import final_record
from runner.inference.finished_run import Privacy, _of_its_sweep
from runner.privacy.ledger.ledger import Ledger
from runner.records.run_file import read_run
from runner.report.write import write_report
from runner.statement import facts as facts_module
from runner.statement.facts import Books, Bound, Share, gather
from runner.statement.words import verdict
from runner.statement.write import STATEMENT_FILE, render
from runner.sweeping.privacy_file import renew_spending, write_spending
from runner.training.loop import Loop
from tests.conftest import ROOT
from tests.statement.private_records import ORIGIN, write_audit, write_ledger, write_private, write_sum

PAGES = ROOT / "tests" / "statement" / "pages"
BY_COMPOSITION = "composition: every cell was looked at to choose"
BY_RANDOM_STOPPING = "random stopping: trials and their number were drawn beforehand"


def facts_of(run_dir, ledger_dir, *, drawn=False):
    return gather(run_dir, read_run(run_dir), Books(), ledger_dir=str(ledger_dir), drawn=drawn)


def private(folder):
    run = write_private(folder / "run")
    return facts_of(run, write_ledger(folder / "ledger", ("run", {})))


def not_private(folder):
    run = write_private(folder / "run", unsafe_noise_seed=7)
    return facts_of(run, write_ledger(folder / "ledger", ("run", {"private": False})))


def void(folder):
    augment = {"flip": True, "crop_padding": 0}
    run = write_private(folder / "run", draws=None, augment=augment)
    return facts_of(run, write_ledger(folder / "ledger", ("run", {})))


def in_a_sweep(folder):
    run = write_private(folder / "sweep" / "1", weights="DEFAULT")
    write_sum(folder / "sweep", ["0", "1", "2"], best=4.6123, by=BY_COMPOSITION, everything=4.6123)
    cells = [(str(number), {"sweep": "s"}) for number in range(3)]
    ledger = write_ledger(folder / "ledger", *cells, ("old", {}), ("seeded", {"private": False, "identity": "two"}))
    write_audit(run)
    return facts_of(run, ledger)


def the_best_of_drawn_ones(folder):
    run = write_private(folder / "sweep" / "16", validation="public")
    names = [str(number) for number in range(17)]
    write_sum(folder / "sweep", names, best=4.407, by=BY_RANDOM_STOPPING, best_cell="16", everything=23.79)
    ledger = write_ledger(folder / "ledger", *((name, {"sweep": "s", "validation": "public"}) for name in names))
    return facts_of(run, ledger, drawn=True)


def killed(folder):
    run = write_private(folder / "run", status="running", steps=None, finished=None, validation="none")
    return facts_of(run, folder / "elsewhere")


HAND_MADE = [private, not_private, void, in_a_sweep, the_best_of_drawn_ones, killed]


@pytest.mark.parametrize("make", HAND_MADE, ids=lambda make: make.__name__)
def test_a_page_word_for_word(make, tmp_path):
    page = render(make(tmp_path))
    assert page == (PAGES / f"{make.__name__}.md").read_text()
    printed = [part for line in page.splitlines() for part in textwrap.wrap(line, 105) or [""]]
    assert len(printed) <= 66, "more than a printed page"


def test_an_end_that_what_was_shown_may_have_chosen_names_the_cost_of_the_plan(tmp_path):
    run = write_private(tmp_path / "run", status="interrupted", epsilon=2.0, steps=60)
    page = render(facts_of(run, tmp_path / "ledger"))
    assert "ε = 2.00" in page
    assert "otherwise that of the whole plan does, ε = 3.00." in page
    pruned = write_private(tmp_path / "pruned", status="pruned", steps=60)
    page = render(facts_of(pruned, tmp_path / "ledger"))
    assert "so all that were planned count" in page
    assert "ε = 3.00" in verdict(facts_of(pruned, tmp_path / "ledger"))


def test_nothing_of_drawn_trials_travels_with_the_best(tmp_path):
    facts = the_best_of_drawn_ones(tmp_path)
    page = render(facts)
    assert "ε = 4.41" in verdict(facts)
    assert "17" not in page
    assert "16" not in page
    assert "23.79" not in page
    assert "2.998" not in page
    assert "3.00 " not in page, "the ε of one trial alone is not what holds"


@pytest.mark.parametrize(
    ("by", "best_cell"), [(BY_RANDOM_STOPPING, "2"), ("composition, as long as not all have ended", "16")]
)
def test_another_of_drawn_trials_is_not_for_publication(tmp_path, by, best_cell):
    the_best_of_drawn_ones(tmp_path)
    names = [str(number) for number in range(17)]
    write_sum(tmp_path / "sweep", names, best=4.407, by=by, best_cell=best_cell)
    facts = facts_of(tmp_path / "sweep" / "16", tmp_path / "ledger", drawn=True)
    assert verdict(facts) == "Not for publication. Private by itself: ε = 3.00 at δ = 1e-05."
    assert "17" not in render(facts)
    assert "Keep it to yourself" in render(facts)


def test_nor_with_another_run_on_the_same_images(tmp_path):
    private(tmp_path)
    with Ledger(tmp_path / "ledger", ORIGIN)._chain.appending() as file:
        file.append({"kind": "selection", "sweep": "s", "trials": 17})
    write_ledger(tmp_path / "ledger", *((str(number), {"sweep": "s"}) for number in range(17)))
    facts = facts_of(tmp_path / "run", tmp_path / "ledger")
    assert facts.ledger == "holds trials whose number is not to be told"
    assert facts.validation_uses == 2


def test_at_the_end_of_drawn_trials_each_statement_is_settled(tmp_path):
    the_best_of_drawn_ones(tmp_path)
    sweep = tmp_path / "sweep"
    write_private(sweep / "0")
    for name in ("0", "16"):
        typed = {"selection": "random_stopping", "ledger_dir": str(tmp_path / "ledger")}
        (sweep / name / ".hydra" / "config.yaml").write_text(json.dumps({"privacy": typed}))
    _renew_statements(sweep)
    best, other = ((sweep / name / STATEMENT_FILE).read_text() for name in ("16", "0"))
    assert "It is the best of several runs, whose number was drawn at random beforehand" in best
    assert "Not for publication" in other


def test_a_sum_with_a_void_run_promises_nothing(tmp_path):
    in_a_sweep(tmp_path)
    names = ["0", "1", "2"]
    write_sum(tmp_path / "sweep", names, best=None, by=BY_COMPOSITION, everything=None)
    facts = facts_of(tmp_path / "sweep" / "1", tmp_path / "ledger")
    assert verdict(facts).endswith("nothing is promised if it was picked as the best of its sweep.")
    assert "If this one was chosen by a look at the others, nothing is promised." in render(facts)


def test_a_failed_audit_stands_in_the_first_sentence(tmp_path):
    private(tmp_path)
    write_audit(tmp_path / "run", passed=False)
    facts = facts_of(tmp_path / "run", tmp_path / "ledger")
    assert verdict(facts) == "In doubt: an audit contradicts what this run reported (ε = 3.00 at δ = 1e-05)."
    told = "The audit FAILED on 2026-12-01 (lower bound). From what the attack saw, ε is at least 4.20 (with 95%"
    assert told in render(facts)


def test_an_audit_of_other_settings_is_none_of_this_run(tmp_path):
    private(tmp_path)
    write_audit(tmp_path / "run", noise_multiplier=2.0)
    assert facts_of(tmp_path / "run", tmp_path / "ledger").audited is None


def test_a_cell_far_from_its_sweep_does_not_look_like_a_run_by_itself(tmp_path):
    in_a_sweep(tmp_path)
    (tmp_path / "sweep" / "privacy.json").unlink()
    page = render(facts_of(tmp_path / "sweep" / "1", tmp_path / "ledger"))
    assert "it is one of several runs, whose sum is not known here.**" in page
    assert "one of several runs of a sweep (the same images, other settings), whose sum is not known here" in page


def test_a_broken_ledger_is_told(tmp_path):
    private(tmp_path)
    (path,) = (tmp_path / "ledger").glob("*.jsonl")
    path.write_text(path.read_text().replace('"steps":120', '"steps":12'))
    page = render(facts_of(tmp_path / "run", tmp_path / "ledger"))
    assert "is broken (`python -m runner ledger verify` says how): what all of them cost cannot be said here." in page
    assert str(tmp_path) not in page, "the page travels"


def test_runs_on_data_that_share_images_count(tmp_path, monkeypatch):
    facts = private(tmp_path)
    other = write_ledger(tmp_path / "other", ("run", {"data": "more digits"}), ("run2", {}))
    monkeypatch.setattr(facts_module, "related", lambda *_: [(Ledger(Path(other), ORIGIN, anchored=False), 40)])
    shared = facts_of(tmp_path / "run", tmp_path / "ledger")
    assert (facts.ledger.runs, shared.ledger.runs, shared.ledger.elsewhere) == (1, 3, 2)
    assert shared.ledger.bound.epsilon > 4
    assert "counts 3 runs, this one included, 2 on other data that share images with these, the last" in render(shared)


def test_what_a_record_says_is_no_markup(tmp_path):
    run = write_private(tmp_path / "run", name="a`b\n# Private by decree <b>")
    page = render(facts_of(run, tmp_path))
    assert page.count("\n# ") == 0
    assert "`a'b # Private by decree <b>`" in page


@pytest.mark.parametrize("broken", ["audit", "sum", "plan"])
def test_damaged_records_are_one_line(tmp_path, broken):
    run = write_private(tmp_path / "sweep" / "run")
    if broken == "audit":
        (run / "audit.json").write_text("{}")
    elif broken == "sum":
        (tmp_path / "sweep" / "privacy.json").write_text('{"data": [{"cells": 3}]}')
    else:
        record = json.loads((run / "run.json").read_text())
        record["plan"]["semantic"]["privacy"] = {"epsilon": "three"}
        (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError) as error:
        facts_of(run, tmp_path)
    assert "\n" not in str(error.value)


def test_a_sum_that_does_not_know_the_latest_start_promises_nothing(tmp_path):
    """A copy of the folder was finished elsewhere, or the other way round: every start in the ledger counts."""
    run = write_private(tmp_path / "sweep" / "1")
    cells = ["0", "1", "2"]
    write_sum(tmp_path / "sweep", cells, best=3.75, by=BY_RANDOM_STOPPING, best_cell="1")
    ledger = tmp_path / "ledger"
    for name in cells:
        write_ledger(ledger, (name, {"sweep": "s"}))
    before = facts_of(run, ledger, drawn=True)
    assert before.share.chosen
    assert "ε = 3.75" in render(before)
    write_ledger(ledger, ("2", {"sweep": "s"}))
    after = facts_of(run, ledger, drawn=True)
    assert not after.share.chosen
    assert "3.75" not in render(after)
    assert "Not for publication" in render(after)
    grid = facts_of(run, ledger)
    assert "3.75" not in render(grid)


def test_a_report_brings_the_sum_up_to_the_ledger(tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "privacy.json").write_text('{"sweep": "s"}')
    ledger = tmp_path / "ledger"
    private = {"privacy": {"enabled": True, "ledger_dir": str(ledger)}}
    sweep = SimpleNamespace(folder=folder, cells=[SimpleNamespace(config=private)])

    def best():
        return json.loads((folder / "privacy.json").read_text())["data"][0]["publish_best"]["epsilon"]

    write_ledger(ledger, ("0", {"sweep": "s"}), ("1", {"sweep": "s"}))
    write_spending(folder, [ledger], ordinary=0)
    two = best()
    renew_spending(sweep)
    assert best() == two
    write_ledger(ledger, ("1", {"sweep": "s"}))
    renew_spending(sweep)
    assert best() > two
    # on a machine without that ledger, what was known stays
    three = best()
    shutil.rmtree(ledger)
    renew_spending(sweep)
    assert best() == three


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (Share(cells=3, publish_best=Bound(epsilon=2.92, delta=1e-5)), "as the best of its sweep ε=2.92"),
        (Share(cells=3, publish_best=Bound(epsilon=math.inf, delta=1e-5)), "as the best of its sweep no bound is"),
        (
            Share(cells=7, publish_best=Bound(epsilon=3.75, delta=1e-5), drawn=True, chosen=True),
            "as the best of its sweep ε=3.75",
        ),
        (Share(cells=7, publish_best=Bound(epsilon=3.75, delta=1e-5), drawn=True), "not for publication"),
    ],
)
def test_the_epsilon_that_travels_with_a_model_says_what_choosing_it_costs(share, said):
    told = Privacy(epsilon=2.0, delta=1e-5, adjacency="add_remove", accountant="pld", sweep=_of_its_sweep(share))
    assert f"of this run alone; {said}" in str(told)


def test_an_ordinary_run_has_none(train):
    run = train("data=synthetic", "data.num_train=64", "data.image_size=8", "model=linear", "trainer.steps=2")
    assert not (run / STATEMENT_FILE).exists()


TINY = ("trainer=dp", "data=synthetic", "data.num_train=64", "data.image_size=8", "data.batch_size=16", "model=linear",
        "trainer.steps=2", "privacy.noise_multiplier=1.5", "privacy.grad_sample=functional")  # fmt: skip


def test_a_private_run_leaves_it_and_its_report_shows_it(train, tmp_path):
    run = train(*TINY)
    page = (run / STATEMENT_FILE).read_text()
    facts = gather(run, read_run(run), Books(), ledger_dir=None, drawn=False)
    assert page == render(facts)
    assert verdict(facts) in page
    assert facts.bound.epsilon == read_run(run).privacy.epsilon
    assert (facts.ledger.runs, facts.validation_uses) == (1, 1)
    # a report writes it anew, with what has been found since
    write_audit(run)
    assert report([str(run)]) == 0
    assert "Audited on 2026-12-01" in (run / STATEMENT_FILE).read_text()
    html = (run / "report.html").read_text()
    assert "<h2>Privacy statement</h2>" in html
    assert "<h3>What is promised</h3>" in html
    assert "Audited on 2026-12-01" in html


def test_a_run_that_calls_itself_finished_has_its_statement(train, monkeypatch, tmp_path):
    """Killed the moment that ``run.json`` says so, it is not started again: what is missing then stays missing."""
    write_run, there = final_record.write_run, {}

    def look(run_dir, record):
        write_run(run_dir, record)
        there[record.status] = (run_dir / STATEMENT_FILE).exists()

    monkeypatch.setattr(final_record, "write_run", look)
    train(*TINY)
    assert there["completed"]


def test_a_failed_run_counts_with_what_was_planned(train, monkeypatch, tmp_path):
    monkeypatch.setattr(Loop, "_end_epoch", lambda *_: 1 / 0)
    (tmp_path / "run").mkdir()
    with pytest.raises(ZeroDivisionError):
        train(*TINY, run_dir=tmp_path / "run")
    page = (tmp_path / "run" / STATEMENT_FILE).read_text()
    assert "failed on" in page
    assert "all 2 that were planned count" in page


def test_a_sweeps_report_holds_one_for_each_private_cell(tmp_path):
    in_a_sweep(tmp_path)
    for name in ("0", "2"):
        write_private(tmp_path / "sweep" / name)
    write_report(tmp_path / "sweep")
    html, text = ((tmp_path / "sweep" / f"report.{ending}").read_text() for ending in ("html", "md"))
    assert html.count("<details><summary>") == 3
    assert "if it was picked as the best of its sweep" in html
    assert "](<2/privacy_statement.md>)" in text
    assert (tmp_path / "sweep" / "2" / STATEMENT_FILE).exists()

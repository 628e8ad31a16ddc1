"""The report as files: complete, self-contained, and the same from the same folder."""

import dataclasses
import html.parser
import json
import math
import random
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
import yaml
from omegaconf import OmegaConf

from runner.commands.compare import main as compare
from runner.commands.report import main
from runner.config.compose import Composer
from runner.config.schema import ComparisonConfig
from runner.records.document import Heading, Paragraph, ShellCommand
from runner.records.run_file import read_run, write_run
from runner.records.step_time import PHASES, StepTime
from runner.records.sweep_cells import write_cells
from runner.report import write
from runner.report.cells import CellResult, SweepResults
from runner.report.confirmation import confirm_command
from runner.report.front_plots import _by_label
from runner.report.html_page import to_html
from runner.report.search_importance import importances_of
from runner.report.style import SERIES
from runner.report.title import which
from runner.report.write import write_report
from tests.report.sweep_folders import write_cell, write_search, write_sweep, write_trials

GRID = [
    ("precision=fp32 seed=0", 0.97),
    ("precision=fp32 seed=1", 0.98),
    ("precision=fp16 seed=0", 0.96, {"seconds": 20.0}),
    ("precision=fp16 seed=1", 0.98, {"seconds": 22.0}),
    ("precision=<b>&|*x* seed=0", "failed", {"error": "a | b <c> and `d`", "curve": (3.0,)}),
    ("precision=<b>&|*x* seed=1", "running", {"curve": ()}),
]


class Page(html.parser.HTMLParser):
    """Refuses what is not closed, and collects what a page refers to."""

    VOID = {"meta", "br", "link", "img"}

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.tags, self.ids = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for key, value in attributes if key in ("src", "href", "xlink:href", "srcset")]
        self.ids += [value for key, value in attributes if key == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    folder = write_sweep(tmp_path_factory.mktemp("grid"), GRID)
    write_report(folder)
    return folder


def test_the_page_needs_nothing_else(grid):
    text = (grid / "report.html").read_text()
    page = Page(text)
    assert all(reference.startswith("#") for reference in page.references)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert "url(http" not in text
    assert "@import" not in text
    # what a picture refers to must be in it: several share the page, and the names of one must not be another's
    assert len(page.ids) == len(set(page.ids))
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert page.tags.count("svg") == 4
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_the_title_is_the_question(tmp_path):
    def titled(cells, **options):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        write_sweep(folder, cells, **options)
        write_report(folder)
        return (folder / "report.md").read_text().splitlines()[0].removeprefix("# ")

    assert titled(GRID[:4]) == "Which precision?"
    two = [(f"optimizer.lr={rate} data.batch_size={size}", 0.9) for rate in (1, 2) for size in (3, 4)]
    assert titled(two) == "Which learning rate and batch size?"
    assert titled(two, comparison={"by": ["optimizer.lr"]}) == "Which learning rate?"
    assert titled([("precision=bf16 seed=0", 0.9), ("precision=bf16 seed=1", 0.9)]) == "How well does it do?"
    assert which(["a.b_c", "d", "e", "f", "g"]) == "Which b c, d, e and 2 more?"
    write_cell(tmp_path / "run", "precision=bf16", 0.97)
    write_report(tmp_path / "run")
    assert "<title>r</title>" in (tmp_path / "run" / "report.html").read_text(), "the name of the run"


def test_names_of_another_direction_and_control_characters_turn_nothing_round():
    names = ["\u202egnp.exe", "שלום <b>", "\x1b[31m"]
    page = to_html([Heading(1, names[0]), Paragraph(f"{names[1]} 1 > 0"), ShellCommand(f"a\nb {names[2]}")])
    assert r"<title>\u202egnp.exe</title>" in page
    assert "<p><bdi>שלום</bdi> &lt;b&gt; 1 &gt; 0</p>" in page
    assert "<pre>a\nb \\x1b[31m</pre>" in page
    assert not {"\u202e", "\x1b"} & set(page)


def test_the_answer_stands_out_and_its_command_is_one_to_copy():
    page = to_html(
        [Heading(1, "Which?"), Paragraph("Use a: 0.5 % better. To settle it: `python -m runner x=1`.", True)]
    )
    assert '<p class="lead"><strong>Use a: 0.5&nbsp;% better.</strong> To settle it: <code class="command">' in page


def test_a_comparison_leaves_the_report_as_it_is(grid, capsys):
    before = {path.name: path.read_bytes() for path in [*grid.glob("*.html"), *grid.glob("plots/*")]}
    assert compare([str(grid), "--by", "seed"]) == 0
    assert capsys.readouterr().out.endswith(f"report: {grid / 'comparison.html'}\n")
    assert {name: (grid / name).read_bytes() if "html" in name else (grid / "plots" / name).read_bytes()
            for name in before} == before  # fmt: skip
    text = (grid / "comparison.md").read_text()
    assert text.startswith("# Which seed?")
    assert set(re.findall(r"\((comparison_plots/.*?)\)", text)) == {
        f"comparison_plots/{path.name}" for path in (grid / "comparison_plots").iterdir()
    }
    shutil.rmtree(grid / "comparison_plots")


def test_pictures_are_drawings_with_words_in_the_colours_of_the_page(grid):
    for element in re.findall(r"<svg.*?</svg>", (grid / "report.html").read_text(), re.DOTALL):
        drawing = ElementTree.fromstring(element)
        assert drawing.get("role") == "img"
        assert drawing.get("aria-label")
        assert "currentColor" in element
        assert "#1f2328" not in element
        assert "width" not in drawing.attrib


def test_what_cells_say_is_no_markup(grid):
    page, text = (grid / "report.html").read_text(), (grid / "report.md").read_text()
    assert "<b>&|" not in page
    assert "&lt;b&gt;&amp;|*x*" in page
    assert r"\<b\>&\|\*x\*" in text
    assert "a | b &lt;c&gt; and <code>d</code>" in page


def test_markdown_links_the_pictures_beside_it(grid):
    text = (grid / "report.md").read_text()
    linked = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert sorted(linked) == sorted(str(path.relative_to(grid)) for path in (grid / "plots").iterdir())
    assert all((grid / path).read_bytes().startswith(b"\x89PNG") for path in linked)
    rows = [line for line in text.splitlines() if line.startswith("| fp16")]
    assert rows[0].split(" | ")[1:4] == ["2 of 2", "97.00 %", "84.29 to 100.00 %"]
    assert "python -m runner --multirun precision=fp32,fp16 seed=0,1" in text
    assert "4 (" in text
    assert "5 (" in text


def test_the_same_files_give_the_same_report(grid):
    def contents():
        paths = [grid / "report.md", grid / "report.html", *sorted((grid / "plots").iterdir())]
        return {path.name: path.read_bytes() for path in paths}

    before = contents()
    (grid / "plots" / "front.png").write_bytes(b"damaged")
    (grid / "plots" / "of_an_older_report.png").write_bytes(b"old")
    write_report(grid)
    assert contents() == before


def test_a_report_imports_no_torch(grid):
    code = (
        "import sys; from runner.commands.report import main; code = main(sys.argv[1:]);"
        "assert not {'torch', 'optuna', 'matplotlib.pyplot'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(grid)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "verdict: 1 of 6 cells failed and 1 of the 6 cells begun has not ended. So far fp32 leads: 2.1x as fast;"
    )
    assert done.stdout.endswith(f"report: {grid / 'report.html'}\n")


def test_a_single_run(tmp_path):
    write_cell(tmp_path / "run", "precision=bf16", 0.97)
    report = write_report(tmp_path / "run")
    assert report.verdict == "One run: test accuracy 97.00 %."
    assert sorted(path.stem for path in (tmp_path / "run" / "plots").iterdir()) == ["curves", "time"]


def test_where_the_time_of_a_step_went(tmp_path):
    fast = StepTime.of({**dict.fromkeys(PHASES, 0.0), "forward": 0.3, "backward": 0.7}, steps=100)
    slow = StepTime.of({**dict.fromkeys(PHASES, 0.0), "data": 2.0, "forward": 1.0, "backward": 1.0}, steps=100)
    cells = [("precision=fp32 seed=0", 0.9, {"step_time": fast}), ("precision=fp32 seed=1", 0.9, {"step_time": slow}),
             ("precision=fp16 seed=0", 0.9, {"step_time": slow}), ("precision=bf16 seed=0", 0.9)]  # fmt: skip
    write_sweep(tmp_path, cells)
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    # (10 + 40) / 2 ms, of which 20 / 2 are data; phases that take no time have no column, nor has a run without figures
    assert "| recipe | ms a step | data | forward | backward |" in text
    assert "| fp32 | 25.00 | 40.0 | 26.0 | 34.0 |" in text
    assert "| fp16 | 40.00 | 50.0 | 25.0 | 25.0 |" in text
    assert text.count("plots/steps.png") == 1
    assert text.count("| bf16 |") == 2


def test_privacy(tmp_path):
    cells = [(f"privacy.epsilon={e} seed={s}", 0.9 + e / 100 + s / 100, {"epsilon": e - 0.001}) for e in (1, 3)
             for s in (0, 1)]  # fmt: skip
    write_sweep(tmp_path, [*cells, ("trainer=standard seed=0", 0.98), ("trainer=standard seed=1", 0.985)])
    spent = {
        "data": "digits",
        "cells": [{"epsilon": 0.999}, {"epsilon": 2.999}, {"epsilon": None}],
        "publish_all": {"epsilon": 5.8301, "delta": 1e-5, "accountant": "pld"},
        "publish_best": {"epsilon": 5.8301, "delta": 1e-5, "accountant": "pld", "by": "composition"},
        "cells_not_private": 1,
        "evaluations_without_noise": 60,
        "note": "evaluations had no noise",
    }
    (tmp_path / "privacy.json").write_text(json.dumps({"sweep": "s", "cells_without_privacy": 2, "data": [spent]}))
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| digits | 2 | 1.00 to 3.00 | 5.84 | 5.84 | 1e-05 |" in text
    assert "2 cells ran without privacy" in text
    assert "60 evaluations had no noise" in text
    assert (tmp_path / "plots" / "privacy.png").exists()
    # of runs that have the same budget, a curve over epsilon would be a dot
    write_sweep(tmp_path / "same", [cell for cell in cells if "epsilon=1" in cell[0]])
    write_report(tmp_path / "same")
    assert not (tmp_path / "same" / "plots" / "privacy.png").exists()


def test_a_search(tmp_path):
    values = [0.5 + number / 50 for number in range(21)] + [0.9]
    write_search(tmp_path, values, states={3: "PRUNED", 9: "FAIL"})
    report = write_report(tmp_path)
    assert report.verdict == (
        "Best of 20 completed trials: optimizer.lr=0.01 optimizer=sgd, with validation accuracy 90.00 % (trial 20;"
        " selected, so optimistic). 2 trials tie at this value (20, 21): the search does not tell them apart."
    )
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# Which learning rate and optimizer?\n")
    assert "22 trials: 20 completed, 1 pruned, 1 failed." in text
    rows = [line.split(" | ") for line in text.partition("| trial |")[2].splitlines()[2:24]]
    # by value, the best first, every parameter in as many digits as count, no test figure but the winner's
    assert [row[0].removeprefix("| ") for row in rows] == [
        *("20", "21"), *(str(n) for n in range(19, -1, -1) if n not in (3, 9)), "3", "9",
    ]  # fmt: skip
    assert rows[2][1:4] == ["88.00 %", "0.00794", "adam"]
    assert rows[0][-1] == "the best: selected, so optimistic |"
    assert "trial 20 has test accuracy 14.30 %" in text
    assert text.count("14.3") == 1
    assert "12.5" not in text
    command = text.partition("fresh seeds")[2].partition("```\n")[2].partition("\n")[0]
    assert command == (
        "python -m runner --multirun optimizer.lr=0.01 optimizer=sgd trainer.epochs=3 seed=1,2,3,4,5"
    )  # the search ran on seed 0
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {"history", "importances", "curves"}
    assert "## Comparison" not in text
    assert "## Recipes" not in text


def test_importances_need_trials_and_a_band(tmp_path):
    write_search(tmp_path, [0.5 + number / 50 for number in range(19)])
    write_report(tmp_path)
    assert "mattered cannot be told from 19 completed trials; 20 are the least" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "plots" / "importances.png").exists()
    draw = random.Random(4)
    params = [{"lr": str(10 ** draw.uniform(-4, -1)), "wd": str(draw.random())} for _ in range(60)]
    noise = importances_of(params, [draw.random() for _ in params], direction="maximize")
    assert max(noise.of.values()) <= noise.chance
    found = importances_of(params, [-abs(math.log10(float(one["lr"])) + 2) for one in params], direction="maximize")
    assert next(iter(found.of)) == "lr"
    assert found.of["lr"] > found.chance > found.of["wd"]


def test_a_winner_of_a_question_is_confirmed_with_what_the_question_set(tmp_path, monkeypatch):
    # the file's own options and keys: without them the command would be another recipe
    monkeypatch.chdir(tmp_path)
    lines = ["sweep=optuna_dp", "trainer.epochs=3"]
    composed = Composer(caller=tmp_path).compose([*lines, "optimizer.lr=0.5"])
    config = OmegaConf.to_container(composed, resolve=False)
    config.pop("hydra")
    choices = dict(composed.hydra.runtime.choices)
    cell = CellResult(
        tmp_path, "completed", dict(line.split("=") for line in [*lines, "optimizer.lr=0.5"]), None, None, "0"
    )
    vars(cell).update({"config": config, "choices": {g: o for g, o in choices.items() if not g.startswith("hydra/")}})
    command = confirm_command(SweepResults(tmp_path, (cell,)), cell)
    words = shlex.split(command)[4:]
    assert {"trainer=dp", "privacy.sweep_epsilon=15.0", "optimizer.lr=0.5"} <= set(words)
    assert not [word for word in words if word.startswith(("sweep=", "hydra"))]
    assert words[-1] == "seed=1,2,3,4,5"
    again = OmegaConf.to_container(Composer(caller=tmp_path).compose([*words[:-1], "seed=0"]), resolve=False)
    again.pop("hydra")
    assert {**again, "sweep": None} == {**config, "sweep": None}


def test_a_search_with_two_objectives(tmp_path):
    write_sweep(tmp_path, [("optimizer.lr=0.1", 0.9)])
    values, directions = [[0.9, 10], [0.8, 5], [0.7, 6], [0.95, 40]], ("maximize", "minimize")
    write_trials(tmp_path, values, columns=("values_0", "values_1"), directions=directions)
    assert write_report(tmp_path).verdict == "3 of 4 completed trials are beaten by none in all objectives."
    assert "trial 2 " not in (tmp_path / "report.md").read_text()
    assert "optimistic" not in (tmp_path / "report.md").read_text(), "nothing was selected yet"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            ["--by", "precison"],
            "comparison.by: got precison, expected a key of the cells; between them differ: precision,",
        ),
        (["--by", "lr"], "did you mean optimizer.lr?"),
        (["--metric", "accuracy"], "comparison.metric: got accuracy, expected one of test_accuracy"),
        (["--metric", "val_accuracy"], "comparison.metric: got val_accuracy, expected one that was measured: test_acc"),
        (["--metric", "test_loss"], "comparison.margin: got null, expected a number of nats"),
        (["--margin", "0"], "comparison.margin: got 0.0, expected a number > 0"),
        (["--margin", "nan"], "comparison.margin: got nan, expected a number > 0"),
        (["--margin", "wide"], "--margin: got wide, expected a number"),
        (["--confidence", "95"], "comparison.confidence: got 95.0, expected a number in (0, 1)"),
        (["--reference", "fp23"], "comparison.reference: got fp23, expected one of fp32, fp16,"),
        (["--colour"], "--colour: got an unknown flag, expected [--by KEY[,KEY]] [--metric METRIC] [--margin MARGIN]"),
    ],
)
def test_wrong_requests(grid, capsys, flags, line):
    before = (grid / "report.md").read_bytes()
    assert main([str(grid), *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert line in err
    assert (grid / "report.md").read_bytes() == before


def test_folders_without_a_sweep(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):
        assert main([str(tmp_path / folder)]) == 2
        assert capsys.readouterr().err.startswith("error: DIR: got ")
    assert not list((tmp_path / "empty").iterdir())


def test_a_folder_that_can_only_be_read_is_named_with_what_can_be_done(grid, capsys, monkeypatch):
    monkeypatch.setattr(write, "may", lambda path, what: path != grid)
    for command in (main, compare):
        assert command([str(grid)]) == 1
        err = capsys.readouterr().err
        assert err.startswith(f"error: {grid}: cannot be written, and the report belongs there; ")
        assert f"report {grid} --live shows it" in err


def test_damage_ends_in_one_line(tmp_path, capsys):
    write_sweep(tmp_path, [("seed=0", 0.9), ("seed=1", 0.8)])
    (tmp_path / "0" / "metrics.jsonl").write_text("no JSON\n")
    assert main([str(tmp_path)]) == 0, "the figures of a cell whose curve is damaged still stand"
    (tmp_path / "privacy.json").write_text("[]")
    assert main([str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err
        == "error: privacy.json: not a record of what was spent ('list' object has no attribute 'get')\n"
    )


@pytest.mark.parametrize("file", ["config.yaml", "overrides.yaml"])
@pytest.mark.parametrize("content", [b"x: [", b"\xff\xfe\x00", b"only words"])
def test_a_cell_whose_request_is_damaged_is_listed_and_compared_with_nothing(tmp_path, capsys, file, content):
    write_sweep(tmp_path, [("seed=0", 0.9), ("seed=1", 0.8), ("seed=2", 0.7)])
    (tmp_path / "0" / ".hydra" / file).write_bytes(content)
    assert main([str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("verdict: 1 cell left out, because what was asked is unknown. One recipe, 2 runs:")
    assert not err
    text = (tmp_path / "report.md").read_text()
    listed = text.partition("## Compared with nothing")[2]
    assert listed.lstrip().startswith("- 0: completed, what was asked is unknown: ")
    assert file in listed.splitlines()[2]


HALF = [("optimizer.lr=0.1 seed=0", 0.9), ("optimizer.lr=0.1 seed=1", 0.8), ("optimizer.lr=0.2 seed=0", 0.7)]


def test_a_half_copied_folder_has_no_recipe_without_a_name(tmp_path, monkeypatch):
    write_sweep(tmp_path, HALF)
    shutil.rmtree(tmp_path / "2" / ".hydra")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "pictures").mkdir()
    report = write_report(tmp_path)
    assert "lr=" not in report.verdict
    assert "left out" in report.verdict
    # negative control: what is unknown taken for a recipe
    monkeypatch.setattr("runner.report.cells._checked", lambda cell, unknown: (cell, False))
    write_report(tmp_path)
    assert "lr=-" in (tmp_path / "report.md").read_text()


def test_a_folder_of_which_nothing_is_known_is_no_sweep(tmp_path, capsys):
    write_sweep(tmp_path, HALF)
    for cell in "012":
        shutil.rmtree(tmp_path / cell / ".hydra")
    assert main([str(tmp_path)]) == 2
    assert "unknown of each of its 3 cells" in capsys.readouterr().err


def test_runs_that_are_no_cells_are_named_and_left_out(tmp_path):
    write_sweep(tmp_path, HALF)
    write_cell(tmp_path / "elsewhere" / "run", "optimizer.lr=0.3", 0.1)
    before = write_report(tmp_path)
    assert "lr=0.3" in (tmp_path / "report.md").read_text(), "as of a version that did not say which are its cells"
    write_cells(tmp_path, {"0": ["optimizer.lr=0.1"], "1": ["optimizer.lr=0.1"]})
    after = write_report(tmp_path)
    assert after.verdict != before.verdict
    text = (tmp_path / "report.md").read_text()
    assert "Not part of this sweep, though they lie in its folder: elsewhere/run, 2" in text
    assert "lr=0.2" not in text


def test_cells_of_other_environments_are_told_and_both_are_kept(tmp_path):
    write_sweep(tmp_path, HALF)
    run = read_run(tmp_path / "1")
    old = {**run.environment, "packages": {"torch": "2.14.0"}, "python": "3.10.1"}
    write_run(tmp_path / "1", dataclasses.replace(run, earlier_environments=(old,)))
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "elsewhere, python 3.11.7 -\\> 3.10.1, torch 2.15.0 -\\> 2.14.0: cells 1" in text
    assert "Taken up again on another machine or under other versions: cells 1." in text


ODD = ["_under", "$a$b$", "x^2", "back\\slash", "<b>&", "new\nline", "\x1b[31m", "a" * 200]


def test_values_that_are_markup_elsewhere_are_text_in_pictures_tables_and_page(tmp_path):
    write_sweep(tmp_path, [(f"name={number}", 0.5 + number / 100) for number in range(len(ODD))])
    for number, value in enumerate(ODD):
        (tmp_path / str(number) / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([f"name={value}"]))
    write_report(tmp_path)
    assert {path.stem for path in (tmp_path / "plots").iterdir()} >= {"differences", "curves", "time", "front"}
    text = (tmp_path / "report.md").read_text()
    assert "drawing it failed" not in text
    assert "| \\$a\\$b\\$ |" in text
    assert "| new\\\\nline |" in text
    Page((tmp_path / "report.html").read_text())


def test_a_picture_that_fails_is_told_and_takes_nothing_along(tmp_path, monkeypatch):
    def fail(recipes):
        raise ValueError("no\nfont")

    monkeypatch.setattr("runner.report.contents.draw_curves", fail)
    write_sweep(tmp_path, HALF)
    assert write_report(tmp_path).verdict
    text = (tmp_path / "report.md").read_text()
    assert "A picture is missing here, because drawing it failed: no font" in text
    assert (tmp_path / "plots" / "time.png").exists()


def test_series_stand_out_by_day_and_by_night():
    """Contrast of 3 and more on either paper (WCAG 2.1, 1.4.11)."""

    def luminance(colour):
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [s / 12.92 if s <= 0.03928 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in SERIES:
        for paper in ("#ffffff", "#14181d"):
            light, dark = sorted([luminance(colour), luminance(paper)], reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3


def test_a_finished_cell_whose_figure_was_not_finite_is_listed_and_compared_with_nothing(tmp_path):
    write_sweep(tmp_path, [(f"precision={name} seed={seed}", 0.9) for name in ("fp32", "fp16") for seed in (0, 1)])
    record = json.loads((tmp_path / "3" / "run.json").read_text())
    record["metrics"]["test_loss"] = None  # what a record holds for a number that is none
    (tmp_path / "3" / "run.json").write_text(json.dumps(record))
    write_report(tmp_path, ComparisonConfig(metric="test_loss", margin=0.1))
    report = (tmp_path / "report.md").read_text()
    assert "- 3 (fp16): completed without a finite test\\_loss" in report
    assert "| fp16 | 2 of 2 | 0.1000 |" in report


def test_the_axis_of_epsilon_says_what_the_tables_say():
    spent = [1.1, 0.001, 0.0119, 2.999, float("inf"), 0.0]
    assert _by_label(spent) == {"0.001": 0.001, "0.012": 0.0119, "1.10": 1.1, "3.00": 2.999}

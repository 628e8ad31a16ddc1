"""The report as files: complete, self-contained, and the same from the same folder."""

import html.parser
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
import yaml

from runner.commands.compare import main as compare
from runner.commands.report import main
from runner.records.document import Heading, Paragraph, ShellCommand
from runner.records.step_time import PHASES, StepTime
from runner.report import write
from runner.report.cells import read_sweep
from runner.report.findings import find
from runner.report.front_plots import _by_label
from runner.report.html_page import to_html
from runner.report.style import SERIES
from runner.report.title import title_of, which
from runner.report.write import write_report
from runner.statement.write import STATEMENT_FILE
from tests.report.sweep_folders import write_cell, write_sweep
from tests.statement.private_records import write_private

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


def test_the_title_is_the_question(grid, tmp_path):
    def titled(cells, **options):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        write_sweep(folder, cells, **options)
        found = find(read_sweep(folder), None)
        return title_of(found.sweep, found.question.by)

    assert (grid / "report.md").read_text().splitlines()[0] == f"# {titled(GRID)}"
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


def test_a_report_imports_no_torch(grid, tmp_path):
    """Neither that of a private run, with its statement, nor that of a sweep."""
    private = write_private(tmp_path / "private")
    code = (
        "import sys; from runner.commands.report import main; codes = [main([folder]) for folder in sys.argv[1:]];"
        "slow = {'torch', 'dp_accounting', 'optuna', 'matplotlib.pyplot'};"
        "assert not slow & set(sys.modules); sys.exit(max(codes))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(private), str(grid)], capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (private / STATEMENT_FILE).exists()
    verdict = done.stdout.partition("verdict: ")[2].partition("verdict: ")[2]
    assert verdict.startswith(
        "1 of 6 cells failed and 1 of the 6 cells begun has not ended. So far fp32 leads: 2.1x as fast;"
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


def test_a_folder_that_can_only_be_read_is_named_with_what_can_be_done(grid, capsys, monkeypatch):
    monkeypatch.setattr(write, "may", lambda path, what: path != grid)
    for command in (main, compare):
        assert command([str(grid)]) == 1
        err = capsys.readouterr().err
        assert err.startswith(f"error: {grid}: cannot be written, and the report belongs there; ")
        assert f"report {grid} --live shows it" in err


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
    write_sweep(tmp_path, GRID[:4])
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


def test_the_axis_of_epsilon_says_what_the_tables_say():
    spent = [1.1, 0.001, 0.0119, 2.999, float("inf"), 0.0]
    assert _by_label(spent) == {"0.001": 0.001, "0.012": 0.0119, "1.10": 1.1, "3.00": 2.999}

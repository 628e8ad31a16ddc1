"""Names of classes, recipes, files and folders that a spreadsheet would compute or a plot would end at."""

import contextlib
import csv
import io
import re
import xml.dom.minidom

import numpy as np
import pytest

from runner.inference import confusion_plot
from runner.inference.confusion_plot import draw_confusion
from runner.records import csv_table
from runner.records.csv_table import from_csv, to_csv
from runner.records.printable import printable
from runner.report import style
from runner.report.style import canvas, finish, name_series

FORMULAS = (
    "=HYPERLINK(\"http://evil\", A1)", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1",
    "\"=1\"", "'=1", " =1", "\uff1d1", "\u22121+1", "-", "--1", "=1;=2", "\ufeff=1", "'\"=1",
)  # fmt: skip
PLAIN = (
    "cat",
    "",
    "-0.5",
    "+1e-3",
    "-inf",
    "nan",
    ".5",
    "a=b",
    "x-1",
    "0x1",
    "'quoted'",
    'say "hi"',
    "a,b",
    "a\nb",
    "'",
)


def computed(cell):
    """Whether a spreadsheet takes the text of a cell for a formula: a first letter that is one, and no number."""
    text = cell.lstrip(' \t\r\n"\u2018\u201c\ufeff')
    is_number = re.fullmatch(r"[+-]?(inf|nan|[0-9.]+(e[+-]?\d+)?)", text, re.I)
    return bool(re.match("[=+\\-@\uff1d\u2212]", text)) and not is_number


def cells_of(text):
    return list(csv.reader(io.StringIO(text, newline="")))


def test_no_text_cell_begins_a_formula_and_reading_gives_it_back():
    columns = ["name", *FORMULAS]
    rows = [dict.fromkeys(columns, text) for text in (*FORMULAS, *PLAIN)]
    text = to_csv(columns, rows)
    assert not [cell for line in cells_of(text) for cell in line if computed(cell)]
    assert from_csv(text) == rows


@pytest.mark.parametrize("value", [-0.5, "-0.5", -3, 1e-7, np.float64(-2.5), "+7", float("-inf")])
def test_numbers_stay_numbers(value):
    (line,) = cells_of(to_csv(["x"], [{"x": value}]))[1:]
    assert float(line[0]) == float(value)


def test_without_the_guard_formulas_are_written(monkeypatch):
    monkeypatch.setattr(csv_table, "_shown", str)
    written = cells_of(to_csv(["x"], [{"x": formula} for formula in FORMULAS]))[1:]
    assert sum(computed(cell) for (cell,) in written) >= 11


@pytest.mark.parametrize("text", ["", "a,b\n1\n", "a,a\n1,2\n", 'a\n"1'])
def test_what_is_no_table_is_refused(text):
    with pytest.raises(ValueError, match="not "):
        from_csv(text)


def test_a_search_of_such_names_is_read_back(tmp_path):
    from runner.report.cells import SweepResults
    from runner.report.search_records import read_search

    columns = ["number", "value", "params_+model._target_", "state"]
    rows = [{"number": i, "value": -0.5 * i, columns[2]: "=cmd()", "state": "COMPLETE"} for i in range(2)]
    (tmp_path / "trials.csv").write_text(to_csv(columns, rows))
    (tmp_path / "optimization_results.yaml").write_text("directions: [minimize]\n")
    search = read_search(SweepResults(tmp_path, ()))
    assert [trial.values for trial in search.trials] == [(0.0,), (-0.5,)]
    assert search.trials[0].params == {"+model._target_": "=cmd()"}


def test_the_files_of_an_inference_and_of_a_sweep_hold_no_formula(command, tmp_path):
    from hostile_images import encode
    from PIL import Image

    from runner.commands import infer
    from runner.records.sweep_table import write_table

    for index, name in enumerate(("=1+1", "$\\frac{$")):
        for number in range(6):
            path = tmp_path / "photos" / name / f"@{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(Image.new("L", (8, 8), 200 * index + number), "PNG"))
    run_dir = tmp_path / "=cmd"
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    code, _, told = command("data=image_folder", f"data.root={photos}", "data.image_size=8", "model=linear",
                            "trainer.steps=2", "data.val_fraction=0", "data.test_fraction=0.4", "tracker=none",
                            f"data.cache_dir={cache}", "hydra.run.dir='=cmd'")  # fmt: skip
    assert code == 0, told
    assert infer.main([f"run={run_dir}"]) == 0  # and its plot of two dollar signs is drawn
    written = (run_dir / "inference" / "standard_test" / "predictions.csv").read_text()
    assert not [cell for line in cells_of(written) for cell in line if computed(cell)]
    assert {row["label"] for row in from_csv(written)} == {"=1+1", "$\\frac{$"}
    write_table(tmp_path)
    assert not [cell for line in cells_of((tmp_path / "table.csv").read_text()) for cell in line if computed(cell)]


NAMES = (
    "$\\frac{$",
    "$a$ $b",
    "_x",
    "a\udcffb",
    "\ud800",
    "a\x00b",
    "\x1b[2J",
    "\u202eabc",
    "</text><script>1</script>",
    "%s",
)


def draw(name):
    draw_confusion(np.eye(2, dtype=np.int64), [name, "b"], title=f"{name}\n2 images")


def report(label):
    with canvas(2.0) as (figure, (axes,)):
        axes.set_yticks(range(2), [label, "b"])
        axes.annotate(label, (0, 0))
        axes.set_xlabel(label)
        name_series(figure, [label, "b"])
        return finish(figure, "n", "caption")


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_text_in_a_plot(name):
    draw(name)
    page = report(printable(name)).svg
    xml.dom.minidom.parseString(page.encode())
    assert "<script" not in page


@pytest.mark.parametrize("name", ["$\\frac{$", "a\udcffb"])
def test_without_the_guard_a_name_ends_a_plot(name, monkeypatch):
    monkeypatch.setattr(confusion_plot, "printable", str)
    monkeypatch.setitem(style._RULES, "text.parse_math", True)
    import matplotlib

    monkeypatch.setattr(matplotlib, "rc_context", contextlib.nullcontext)
    with pytest.raises((ValueError, TypeError)):
        draw(name)
    with pytest.raises((ValueError, TypeError)):
        report(name)


def test_recipes_and_parameters_are_named_printably():
    from runner.report.recipes import label_of

    assert label_of(("model",), ("\x1b$\udcff",)) == "\\x1b$\\udcff"

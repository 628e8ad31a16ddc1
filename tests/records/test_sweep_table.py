import csv
import dataclasses
import re

import pytest

from runner.records.run_file import FinalMetrics, Memory, PrivacySpent, RunRecord, Throughput, write_run
from runner.records.sweep_table import TableWriter, write_table
from runner.records.sweep_table_text import render_table

MEASURED = [
    "status",
    "train_loss",
    "val_loss",
    "val_accuracy",
    "test_loss",
    "test_accuracy",
    "seconds",
    "samples_per_second",
    "peak_bytes",
    "epsilon",
    "delta",
    "error",
]
SPENT = PrivacySpent(
    epsilon=2.9951,
    delta=1e-5,
    noise_multiplier=1.3,
    max_grad_norm=1.0,
    sample_rate=0.02,
    steps=1500,
    accountant="pld",
    adjacency="add_remove",
)


def add_cell(sweep, name, overrides, record=None):
    (sweep / name / ".hydra").mkdir(parents=True)
    (sweep / name / ".hydra" / "overrides.yaml").write_text("".join(f"- {line}\n" for line in overrides) or "[]\n")
    if record is not None:
        write_run(sweep / name, record)


@pytest.fixture
def sweep(tmp_path):
    completed = RunRecord(
        name="r",
        status="completed",
        metrics=FinalMetrics(train_loss=0.1, test_accuracy=0.975, val_accuracy=float("nan")),
        throughput=Throughput(samples_per_second=12345.6),
        memory=Memory(peak_bytes=2**30),
        seconds=61.5,
    )
    add_cell(tmp_path, "10", ["precision=fp32", "seed=0"], completed)
    add_cell(tmp_path, "2", ["precision=fp16", "seed=0"], RunRecord(name="r", status="failed", error='no, "never"\nx'))
    add_cell(
        tmp_path,
        "1",
        ["trainer=dp", "+data.options.shape=[1,2]", "seed=0"],
        RunRecord(name="r", status="budget_exhausted", privacy=SPENT),
    )
    add_cell(tmp_path, "3", ["seed=0"])
    add_cell(tmp_path, "4", ["precision=bf16"], RunRecord(name="r", status="running"))
    (tmp_path / "4" / "run.json").write_text('{"status": "runn')
    (tmp_path / "plots").mkdir()
    (tmp_path / "multirun.yaml").write_text("hydra: {}\n")
    return tmp_path


def read(sweep):
    with (sweep / "table.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        return list(reader), reader.fieldnames


def test_a_row_a_cell_with_failures_and_cells_that_never_started(sweep):
    write_table(sweep)
    rows, columns = read(sweep)
    assert columns == ["cell", "trainer", "data.options.shape", "seed", "precision", *MEASURED]
    assert [(row["cell"], row["status"]) for row in rows] == [
        ("1", "budget_exhausted"),
        ("2", "failed"),
        ("3", "not_started"),
        ("4", "unreadable"),
        ("10", "completed"),
    ]
    by_cell = {row["cell"]: row for row in rows}
    done = by_cell["10"]
    assert (done["precision"], done["seed"], done["trainer"]) == ("fp32", "0", "")
    assert (float(done["test_accuracy"]), float(done["seconds"])) == (0.975, 61.5)
    assert (float(done["samples_per_second"]), int(done["peak_bytes"])) == (12345.6, 2**30)
    assert done["val_accuracy"] == done["epsilon"] == done["error"] == ""
    assert (float(by_cell["1"]["epsilon"]), float(by_cell["1"]["delta"])) == (2.9951, 1e-5)
    assert by_cell["1"]["data.options.shape"] == "[1,2]"
    assert by_cell["2"]["error"] == 'no, "never" x'
    assert "run.json: not a record of a run" in by_cell["4"]["error"]


def test_the_table_follows_the_cells(sweep):
    write_table(sweep)
    write_run(sweep / "3", RunRecord(name="r", status="interrupted"))
    table = write_table(sweep)
    rows, columns = read(sweep)
    assert [row["status"] for row in rows] == ["budget_exhausted", "failed", "interrupted", "unreadable", "completed"]
    assert table.columns == tuple(columns)
    assert list(table.rows) == rows
    assert table.overridden == ("trainer", "data.options.shape", "seed", "precision")


def test_a_sweep_without_cells_has_a_table_with_a_head(tmp_path):
    assert write_table(tmp_path).rows == ()
    assert (tmp_path / "table.csv").read_text() == ",".join(["cell", *MEASURED]) + "\n"


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [("++a.b=1", "a.b", "1"), ("~trainer", "~trainer", ""), ("a='x=y'", "a", "'x=y'"), ("a=", "a", "")],
)
def test_overrides_as_hydra_writes_them(tmp_path, override, key, value):
    add_cell(tmp_path, "0", [f'"{override}"'])
    write_table(tmp_path)
    (row,), columns = read(tmp_path)
    assert columns[1] == key
    assert row[key] == value


def test_the_terminal_shows_what_differs(sweep):
    shown = render_table(write_table(sweep), 100)
    lines = shown.splitlines()
    heads = ["cell", "trainer", "shape", "seed", "precision", "status", "test acc", "images/s", "MiB", "ε"]
    assert lines[0].split() == " ".join(heads).split()
    assert any(line.split() == ["10", "0", "fp32", "completed", "97.50%", "12,346", "1,024"] for line in lines)
    assert any(line.split() == ["1", "dp", "[1,2]", "0", "budget", "exhausted", "3.00"] for line in lines)
    assert '2: no, "never" x' in lines


def test_trials_of_a_search_are_not_shown_with_test_figures(sweep):
    (sweep / "trials.csv").touch()
    assert "test acc" not in render_table(write_table(sweep), 100)
    assert "test_accuracy" in read(sweep)[1], "the file has them all"


def test_memory_is_that_of_the_report_the_mean_over_seeds(tmp_path):
    for seed, peak in enumerate((100, 300)):
        run = RunRecord(name="r", status="completed", memory=Memory(peak_bytes=peak * 2**20))
        add_cell(tmp_path, str(seed), [f"seed={seed}"], run)
    assert render_table(write_table(tmp_path), 100).splitlines()[-1].split()[-1] == "200"


def test_a_narrow_terminal_leaves_out_costs_before_it_wraps(sweep):
    shown = render_table(write_table(sweep), 76)
    lines = [line for line in shown.splitlines() if not re.match(r"\d+: ", line)]
    assert max(map(len, lines)) <= 76
    assert len(lines) == 2 + 5
    assert "test acc" in lines[0]
    assert "MiB" not in lines[0]


def test_a_value_that_does_not_fit_is_cut_and_not_broken(tmp_path):
    for number, model in enumerate(("resnet18", "mobilenet_v3_large_quantized")):
        record = RunRecord(name="r", status="budget_exhausted", metrics=FinalMetrics(test_accuracy=0.9))
        add_cell(tmp_path, str(number), [f"optimizer.lr=0.0123456789{number}", f"model={model}"], record)
    lines = render_table(write_table(tmp_path), 52).splitlines()
    assert max(map(len, lines)) <= 52
    words = " ".join(lines[2:]).split()
    assert all(word.endswith("…") for word in words if word.startswith("0.01"))
    assert [word for word in words if "789" in word or "quantized" in word] == []
    assert {"budget", "exhausted", "90.00%"} <= set(words)


def test_what_is_the_same_in_all_cells_is_not_shown(tmp_path):
    record = RunRecord(name="r", status="completed", metrics=FinalMetrics(test_accuracy=0.9))
    for number in range(2):
        add_cell(tmp_path, str(number), ["sweep=precision", f"precision.amp_dtype=t{number}"], record)
    assert render_table(write_table(tmp_path), 80).splitlines()[0].split() == [
        "cell",
        "amp_dtype",
        "status",
        "test",
        "acc",
    ]


def test_repeats_share_a_line_with_mean_and_spread(tmp_path):
    figures = [("0.1", 0, 0.90), ("0.2", 0, 0.80), ("0.1", 1, 0.94), ("0.2", 1, None)]
    for number, (lr, seed, accuracy) in enumerate(figures):
        metrics = FinalMetrics(test_accuracy=accuracy)
        status = "completed" if accuracy else "failed"
        spent = dataclasses.replace(SPENT, epsilon=1 + seed)
        record = RunRecord(name="r", status=status, metrics=metrics, privacy=spent, error=None if accuracy else "why")
        add_cell(tmp_path, str(number), [f"optimizer.lr={lr}", f"seed={seed}", "seeds=2", "retry_failed=true"], record)
    table = write_table(tmp_path)
    assert len(table.rows) == 4, "table.csv keeps a row a cell"
    assert table.overridden == ("optimizer.lr", "seed")
    lines = render_table(table, 100).splitlines()
    assert lines[0].split() == ["cells", "lr", "status", "test", "acc", "ε"]
    assert lines[2].split() == ["0,", "2", "0.1", "2", "completed", "92.00%", "±", "2.83%", "2.00"], "ε is the largest"
    assert lines[3].split() == ["1,", "3", "0.2", "1", "completed,", "1", "failed", "80.00%", "2.00"]
    assert lines[4] == "3: why"


def test_only_what_has_changed_is_read_again(sweep):
    writer = TableWriter(sweep)
    assert writer.write() == write_table(sweep)
    (sweep / "10" / ".hydra" / "overrides.yaml").write_text("- precision=fp64\n- seed=0\n")
    write_run(sweep / "2", RunRecord(name="r", status="completed"))
    add_cell(sweep, "11", ["precision=auto"], RunRecord(name="r", status="running"))
    assert writer.write() == write_table(sweep)
    rows = {row["cell"]: row for row in read(sweep)[0]}
    assert (rows["10"]["precision"], rows["2"]["status"], rows["11"]["status"]) == ("fp64", "completed", "running")

"""The bench compares what is the same, refuses what is not, and says how sure it is."""

import dataclasses
import re
import shlex

import numpy as np
import pytest

from runner.bench.paired_benchmark import Contender, run_paired
from runner.bench.paired_ratios import paired_difference, paired_ratio
from runner.bench.results import write_results
from runner.bench.section import Section, paired_section
from runner.bench.settings import Settings
from runner.bench.task import TASKS, prepare
from runner.commands.bench import PARTS, _checked, _parser, main
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    task = dataclasses.replace(TASKS["tiny_mlp"], block=20)
    prepared = tmp_path_factory.mktemp("bench") / "prepared.pt"
    prepare(task, prepared)
    contenders = [
        Contender(name="bare", module="bare"),
        Contender(name="runner", module="through_runner"),
        Contender(name="another recipe", module="through_runner", options=("optimizer.lr=0.002",)),
    ]
    settings = Settings(threads=1, launches=1, rounds=2, work=str(prepared.parent))
    return run_paired(task, prepared, contenders, settings)


def test_the_runner_computes_what_the_bare_loop_does_and_another_recipe_gets_no_time(results):
    bare, runner, other = results
    assert runner.same
    np.testing.assert_allclose(runner.losses, bare.losses, rtol=1e-5)
    assert not other.same
    assert other.seconds == []


def test_every_round_gives_a_time_and_every_process_its_peak(results):
    for result in results[:2]:
        assert len(result.seconds) == len(result.cpu_seconds) == 2
        assert min(result.seconds) > 0
        assert result.peak_bytes[0] > 50 * 2**20


def test_the_page_holds_the_table_the_plot_and_every_sample(results, tmp_path):
    section = paired_section(results, name="loop", title="The loop", about="Two loops.", ours="runner", control=None)
    settings = Settings(threads=1, launches=1, rounds=2, work=str(tmp_path))
    page = write_results([section], settings, tmp_path / "results").read_text()
    assert "| another recipe | not the same computation: no time taken |" in page
    assert (tmp_path / "results" / "bench-loop.png").read_bytes().startswith(b"\x89PNG")
    lines = (tmp_path / "results" / "bench.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 2 * (2 + 1), "a heading, two rounds and a peak for each"


def test_energy_has_a_column_where_it_was_read(results):
    bare, runner, _ = (dataclasses.replace(result) for result in results)
    bare.joules, runner.joules = [2.0, 4.0], [1.0, 2.0]
    section = paired_section([bare, runner], name="loop", title="", about="", ours="runner", control=None)
    assert section.columns[-1] == "J an update"
    assert [row[-1] for row in section.rows] == ["3", "1.5"]
    assert [sample["joules"] for sample in section.samples if "joules" in sample] == [2.0, 4.0, 1.0, 2.0]


def test_an_interval_covers_the_true_ratio_and_a_noisier_pair_widens_it():
    rng = np.random.default_rng(0)
    covered, widths = 0, {}
    for noise in (0.01, 0.1):
        found = []
        for _ in range(40):
            drift = rng.uniform(0.5, 2.0, size=20)  # the machine's speed, shared by a pair
            reference = drift * (1 + noise * rng.standard_normal(20))
            ratio = paired_ratio(1.1 * drift * (1 + noise * rng.standard_normal(20)), reference)
            found.append(ratio.high - ratio.low)
            covered += ratio.low <= 1.1 <= ratio.high
        widths[noise] = np.median(found)
    assert covered >= 70, "at least 88 % of 80"
    assert widths[0.1] > 5 * widths[0.01]


def test_differences_are_paired_too():
    difference = paired_difference([3.0, 13.0, 23.0], [1.0, 11.0, 21.0])
    assert (difference.median, difference.low, difference.high) == (2.0, 2.0, 2.0)


def test_the_page_about_the_benchmarks_lists_every_part():
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(PARTS)
    for command in re.findall(r"^python -m runner bench (.*)$", page, re.MULTILINE):
        _checked(_parser().read(shlex.split(command)))


@pytest.mark.parametrize(("argv", "told"), [
    (["lops"], f"error: part: got lops, expected one of {', '.join(PARTS)}; did you mean loops?"),
    (["--rounds=0"], "error: --rounds: got 0, expected a whole number, at least 1"),
    (["--round=1"], "error: --round: got an unknown flag"),
    (["--device=cpus"], "error: --device: got cpus, expected auto, cpu or cuda; did you mean cpu?"),
    (["recipes", "--models", "resnet18"], "error: --models: got resnet18, expected MODEL@SIZExBATCH, such as"),
])  # fmt: skip
def test_wrong_requests(argv, told, capsys):
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith(told)
    assert err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["half", f"--results={tmp_path / 'file' / 'x'}"]) == 2
    assert capsys.readouterr().err.endswith("expected a folder that can be written (Not a directory)\n")


def test_without_lightning_the_parts_beside_it_are_refused_at_once(monkeypatch, capsys):
    monkeypatch.setattr("runner.commands.bench.find_spec", lambda name: None)
    assert main(["recipes", "loops"]) == 2
    assert capsys.readouterr().err.startswith("error: part: got loops, expected a machine with Lightning")


def test_a_part_measured_later_keeps_the_other_sections_and_limits_are_judged_by_the_samples(tmp_path):
    settings = Settings(threads=1, launches=1, rounds=2, work=str(tmp_path))

    def add(name, seconds):
        times = {"bare loop": 1.0, "bare loop again": 1.0, "runner": seconds}
        section = Section(
            name=name, title=f"About {name}", about="Made up.", columns=("what", "time"),
            rows=(("runner", f"{seconds} s"),),
            samples=tuple(
                {"section": name, "contender": who, "round": index, "seconds": time}
                for who, time in times.items() for index in range(3)
            ),
        )  # fmt: skip
        return write_results([section], settings, tmp_path).read_text()

    add("loop_resnet18", 1.5)
    both = add("loop_small_cnn", 1.01)
    assert "| ResNet-18, time over the bare loop | <= 1.02 | **1.500** | [1.500, 1.500] | 1.000 " in both
    again = add("loop_resnet18", 1.015)
    assert again.index("About loop_resnet18") < again.index("About loop_small_cnn")
    judged = {line.split(" | ")[0]: line.split(" | ")[-1] for line in again.splitlines() if "bare loop" in line}
    assert judged == {"| ResNet-18, time over the bare loop": "yes |", "| small_cnn, time over the bare loop": "yes |"}
    assert "**no**" in both
    assert "**no**" not in again
    assert "unmeasured" in again
    assert len((tmp_path / "bench.jsonl").read_text().splitlines()) == 2 * (1 + 9)

"""What ``python -m runner compare`` says of a sweep."""

from __future__ import annotations

from pathlib import Path

from runner.config.schema import ComparisonConfig
from runner.report.budgets import describe_budget, warnings
from runner.report.cells import read_sweep
from runner.report.document import COMPARISON_NAME
from runner.report.findings import find
from runner.report.update_checks import describe_check, read_checks
from runner.report.verdict import describe_comparison
from runner.sweeping.finish import finish_sweep


def compare(sweep_dir: Path, wanted: ComparisonConfig) -> None:
    """Print what the sweep in ``sweep_dir`` says to ``wanted``, check its cells, and write it beside its report.

    Raises:
        RequestError: no sweep is there, or the question does not fit it.
        RunError: a file that belongs to the sweep is damaged or cannot be written.
    """
    findings = find(read_sweep(sweep_dir), wanted)
    lines = [describe_comparison(one, findings.question) for one in findings.comparisons]
    if (budget := describe_budget(findings.grouping)) is not None:
        lines.append(budget)
    print("\n".join([findings.verdict, *lines, *warnings(findings.grouping)]), flush=True)
    report = finish_sweep(sweep_dir, wanted, name=COMPARISON_NAME)
    for check in read_checks(sweep_dir):
        print(describe_check(check))
    print(f"report: {report.path}")

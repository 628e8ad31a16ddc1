"""Provenance of a report's figures: command, machine, and what of the folder is left out."""

from __future__ import annotations

from collections.abc import Iterator

from runner.config.words.pluralize import pluralize
from runner.records.document import Bullets, Heading, ShellCommand
from runner.records.environment_changes import differences, with_earlier
from runner.records.sweep_table import warn_foreign_cells
from runner.report.cells import SweepResults
from runner.report.document import Part

_MOST_NAMED = 20


def left_out(sweep: SweepResults) -> Iterator[Part]:
    """The cells of which nobody knows what was asked, and the runs that are no cells."""
    if not sweep.unknown and not sweep.strangers:
        return
    yield Heading(2, "Compared with nothing")
    items = [f"{cell.name}: {cell.status.replace('_', ' ')}, {cell.error}" for cell in sweep.unknown[:_MOST_NAMED]]
    if len(sweep.unknown) > _MOST_NAMED:
        items.append(f"and {len(sweep.unknown) - _MOST_NAMED} more: see table.csv")
    yield Bullets([*items, *([warn_foreign_cells(sweep.strangers)] if sweep.strangers else [])])


def repeat(sweep: SweepResults) -> Iterator[Part]:
    """The command that makes the sweep again, and every environment in which its cells ran."""
    yield Heading(2, "Repeat it")
    if (command := sweep.command) is not None:
        yield ShellCommand(command)
    records = [(cell.name, cell.record) for cell in sweep.cells if cell.record is not None and cell.record.environment]
    if not records:
        return
    one = records[0][1].environment
    gpus = ", ".join(one["gpus"]) or "no GPU"
    versions = ", ".join(f"{name} {version}" for name, version in one["packages"].items())
    items = [
        f"{one['cpu']}, {pluralize(one['cores'], 'core')}, {pluralize(one['threads'], 'thread')} a process,"
        f" {one['ram_bytes'] / 2**30:.0f} GiB, {gpus}",
        f"{one['platform']}, Python {one['python']}, recipe-runner {one['runner']}, {versions}",
    ]
    if one["git"]:
        items.append(f"commit {one['git']['commit'][:12]}{' with changes' if one['git']['dirty'] else ''}")
    if one["variables"]:
        items.append(", ".join(f"{name}={value}" for name, value in one["variables"].items()))
    every = [(name, found) for name, run in records for found in (run.environment, *run.earlier_environments)]
    for other in with_earlier(one, [found for _, found in every]):
        names = dict.fromkeys(name for name, found in every if not differences(found, other))
        items.append(f"elsewhere, {', '.join(differences(one, other))}: cells {', '.join(names)}")
    starts = sorted(cell.record.started for cell in sweep.cells if cell.record is not None)
    items.append(f"first run started {starts[0][:19].replace('T', ' ')} UTC")
    yield Bullets(items)

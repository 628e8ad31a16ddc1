"""``report.md``, ``report.html`` and the pictures of a sweep, from its files and, where it is private, the ledger."""

from __future__ import annotations

import itertools
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from runner.config.schema import ComparisonConfig
from runner.disk.files import write_bytes, write_text
from runner.disk.ownership import may
from runner.errors import RunError
from runner.records.document import Heading, Paragraph, ShellCommand
from runner.report.cells import read_sweep
from runner.report.contents import write_down
from runner.report.document import REPORT_NAME, Figure, Part, pictures_of, to_markdown
from runner.report.findings import find
from runner.report.html_page import to_html
from runner.report.statements import write_statements


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report that was written."""

    path: Path
    """The page; the same as Markdown lies beside it."""
    verdict: str
    """The answer in a sentence or two."""
    parts: tuple[Part, ...]
    """All that it says."""

    @property
    def answer(self) -> str:
        """What a terminal shows of it, in lines: the verdict and, of a search, the command that confirms it."""
        top = itertools.takewhile(lambda part: not (isinstance(part, Heading) and part.level > 1), self.parts)
        lines = [f"verdict: {self.verdict}"]
        for before, part in itertools.pairwise(top):
            if isinstance(part, ShellCommand) and isinstance(before, Paragraph):
                lines += [before.text, f"  {part.text}"]
        return "\n".join(lines)


def require_writable(sweep_dir: Path) -> None:
    """Raise RunError, with what can be done instead, where no report can be written into ``sweep_dir``."""
    if not may(sweep_dir, os.W_OK):
        shown = f"python -m runner report {shlex.quote(str(sweep_dir))} --live shows it and writes nothing"
        raise RunError(f"{sweep_dir}: cannot be written, and the report belongs there; {shown}")


def write_report(sweep_dir: Path, wanted: ComparisonConfig | None = None, *, name: str = REPORT_NAME) -> Report:
    """Write the report of the sweep, or of the single run, in ``sweep_dir``; an older one of that ``name`` is replaced.

    So are the privacy statements of its private runs, which may have been audited, or joined by others, since.

    ``wanted`` asks another question than the sweep's own configuration does.  The same files give the same bytes.

    Raises:
        RequestError: no sweep is there, or the question does not fit it.
        RunError: a file that belongs to the sweep is damaged, or the report cannot be written.
    """
    findings = find(read_sweep(sweep_dir), wanted)
    require_writable(sweep_dir)
    parts = write_down(findings)
    write_statements(findings.sweep, findings.statements)
    pictures = [part.picture for part in parts if isinstance(part, Figure)]
    folder = sweep_dir / pictures_of(name)
    page = sweep_dir / f"{name}.html"
    try:
        if folder.is_symlink():
            raise RunError(f"{folder}: a link, behind which nothing is written")
        folder.mkdir(exist_ok=True)
        for picture in pictures:
            write_bytes(folder / f"{picture.name}.png", picture.png)
        for old in folder.glob("*.png"):
            if old.stem not in {picture.name for picture in pictures}:
                old.unlink(missing_ok=True)  # cells that end in other processes write a report as well
        write_text(sweep_dir / f"{name}.md", to_markdown(parts, folder.name))
        write_text(page, to_html(parts))
    except OSError as error:
        raise RunError(f"{error.filename or page}: cannot be written ({error.strerror or error})") from error
    return Report(path=page, verdict=findings.verdict, parts=tuple(parts))

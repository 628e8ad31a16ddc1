"""What ``python -m runner report`` does once its words are read."""

from __future__ import annotations

from pathlib import Path

from runner.errors import RequestError
from runner.live.answer import Ask
from runner.live.server import LiveServer
from runner.report.cells import read_sweep
from runner.report.write import require_writable, write_report
from runner.sweeping.privacy_file import renew_spending


def report(sweep_dir: Path, ask: Ask) -> None:
    """Write the report of ``sweep_dir`` and print its verdict and place.

    Raises:
        RequestError: no sweep is there, or the question does not fit it.
        RunError: a file that belongs to the sweep is damaged, or the report cannot be written.
    """
    sweep = read_sweep(sweep_dir)
    require_writable(sweep_dir)
    renew_spending(sweep)
    found = write_report(sweep_dir, ask(sweep))
    print(found.answer)
    print(f"report: {found.path}")


def serve_report(folder: Path, ask: Ask, port: int | None) -> None:
    """Serve the live page of ``folder`` on ``port`` of this machine (None: any that is free) until Ctrl-C.

    Raises:
        RequestError: there is no such folder, or the port cannot be had.
    """
    if not folder.is_dir():
        raise RequestError("DIR", folder, "the folder of a sweep, or of a run; it may be empty so far")
    with LiveServer(folder, ask, port or 0) as server:
        print(f"live: {server.address} (this machine only; Ctrl-C ends it)", flush=True)
        server.serve_forever()

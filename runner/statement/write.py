"""``privacy_statement.md``: the statement as a page of its own, in the folder of its run."""

from __future__ import annotations

from pathlib import Path

from runner.config.schema import PrivacyConfig
from runner.disk.files import write_text
from runner.errors import RunError
from runner.records.document import Heading, markdown_of
from runner.records.run_file import RunRecord
from runner.statement.facts import Books, Facts, gather
from runner.statement.words import TITLE, state

STATEMENT_FILE = "privacy_statement.md"


def render(facts: Facts) -> str:
    """The statement as Markdown."""
    return "\n\n".join(markdown_of(part) for part in [Heading(1, TITLE), *state(facts)]) + "\n"


def write_statement(folder: Path, facts: Facts) -> Path:
    """Write the statement into ``folder``, atomically; an older one is replaced.

    Raises:
        RunError: it cannot be written.
    """
    path = folder / STATEMENT_FILE
    try:
        write_text(path, render(facts))
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def state_privacy(run_dir: Path, record: RunRecord, privacy: PrivacyConfig, sweep_dir: Path | None) -> None:
    """Leave the statement of a private run in its folder at its end; an ordinary run gets none.

    Raises:
        RunError: it cannot be written, or a file that it rests on is damaged.
    """
    if not privacy.enabled:
        return
    drawn = privacy.selection == "random_stopping"
    facts = gather(run_dir, record, Books(), ledger_dir=privacy.ledger_dir, drawn=drawn, sweep_dir=sweep_dir)
    if facts is not None:
        write_statement(run_dir, facts)

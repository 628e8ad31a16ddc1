"""What the private runs of a sweep spent, each and together, and what may not leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from runner.config.words.pluralize import pluralize
from runner.privacy.accounting.privacy_text import epsilon_text
from runner.records.document import Bullets, Grid, Heading, Paragraph
from runner.report.document import Part
from runner.report.findings import Findings
from runner.report.front_plots import draw_privacy
from runner.report.plot_sections import drawn
from runner.report.published_epsilon import damaged, read_spending
from runner.report.recipes import void


def state_spending(findings: Findings) -> Iterator[Part]:
    """Epsilon of each cell, of publishing all of them and the best; nothing where no cell is private."""
    picture = drawn(partial(draw_privacy, findings.grouping.recipes, findings.question))
    reasons = list(dict.fromkeys(reason for cell in findings.sweep.cells if (reason := void(cell)) is not None))
    found = read_spending(findings.sweep.folder)
    try:
        spent = [_spending(data, reasons) for data in found.get("data", []) if data["publish_all"] is not None]
        ordinary = found.get("cells_without_privacy", 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(error) from error
    if not picture and not spent and not reasons:
        return
    yield Heading(2, "Privacy")
    if reasons:
        yield Bullets([f"void: {reason}." for reason in reasons])
    if spent:
        head = ["data", "private cells", "each cell, ε", "publishing all, ε", "publishing the best, ε", "δ"]
        yield Grid(head, [row for row, _ in spent], frozenset({"data"}))
        notes = [note for _, notes in spent for note in notes]
        if ordinary:
            notes.append(f"{pluralize(ordinary, 'cell')} ran without privacy, which no ε covers.")
        yield Bullets(list(dict.fromkeys(notes)))
    yield from picture


def warn_internal(folder: Path) -> Iterator[Part]:
    """Says of a sweep of drawn trials (random stopping) that what the report shows may not leave."""
    publishable = read_spending(folder).get("publishable")
    if isinstance(publishable, dict) and "internal" in publishable:
        yield Paragraph(f"Internal, not to be published: this report shows {publishable['internal']}.")


def _spending(data: dict, reasons: Sequence[str]) -> tuple[list[str], list[str]]:
    """A row of figures, and what must be said of them; ``reasons`` why those of some cells do not hold."""
    everything, best = data["publish_all"], data["publish_best"]
    private = [cell for cell in data["cells"] if cell.get("private", cell["epsilon"] is not None)]
    each = [cell["epsilon"] for cell in private]
    if reasons or None in each or None in (everything["epsilon"], best["epsilon"]):
        # an earlier version may have written figures there that do not hold
        row = [str(data["data"]), str(len(private)), "void", "void", "void", f"{everything['delta']:g}"]
        return row, list(data.get("void", []))
    low, high = epsilon_text(min(each)), epsilon_text(max(each))
    row = [
        str(data["data"]),
        str(len(each)),
        low if low == high else f"{low} to {high}",
        epsilon_text(everything["epsilon"]),
        epsilon_text(best["epsilon"]),
        f"{everything['delta']:g}",
    ]
    notes = [f"All cells together: {everything['accountant']} composition. The best: {best['by']}."]
    if data["note"]:
        notes.append(f"{data['evaluations_without_noise']} {data['note']}.")
    if data["cells_not_private"]:
        notes.append(
            f"Not private at all, by `privacy.unsafe_noise_seed`: {pluralize(data['cells_not_private'], 'cell')}."
        )
    return row, notes

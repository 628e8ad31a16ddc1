"""Ledgers of overlapping data sets, found by the image sketches beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from runner.data.image_sketch import Sketch, shared
from runner.disk.files import write_text
from runner.privacy.ledger.ledger import Ledger


def keep_sketch(ledger: Ledger, sketch: Sketch, *, earlier: str) -> None:
    """Leave ``sketch`` beside the ledger, with the name ``earlier`` that the data had in an earlier version.

    Raises:
        OSError: it cannot be written.
    """
    known = _read(ledger)
    names = {earlier, *(known[1] if known else ())} - {ledger.contents}
    if known is None or known != (sketch, names):
        write_text(_file(ledger), json.dumps({**sketch.as_plain(), "earlier": sorted(names)}))


def related(ledger: Ledger, others: Sequence[Ledger]) -> list[tuple[Ledger, int | None]]:
    """Those of ``others`` that hold some of the images of ``ledger``, and about how many.

    None: all of them, under the name that an earlier version gave the data.
    """
    own = _read(ledger)
    if own is None:
        return []
    found: list[tuple[Ledger, int | None]] = []
    for other in others:
        theirs = _read(other)
        if other.contents in own[1]:
            found.append((other, None))
        elif other.contents != ledger.contents and theirs is not None and (both := shared(own[0], theirs[0])):
            found.append((other, both))
    return found


def _file(ledger: Ledger) -> Path:
    return ledger.folder / f"{ledger.contents}.images"


def _read(ledger: Ledger) -> tuple[Sketch, set[str]] | None:
    try:
        found = json.loads(_file(ledger).read_bytes())
        return Sketch.from_plain(found), {str(name) for name in found["earlier"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None

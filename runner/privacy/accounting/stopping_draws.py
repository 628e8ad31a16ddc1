"""The draw of random stopping (``random_stopping.py``) for a sweep, as its files and the ledger keep it.

The ledger of the data holds it in a line of its own, before the start of the first trial: so a number that was drawn
cannot be drawn again by removing or editing a file of the sweep.  It stands there in the clear.  It says nothing about
the data, of which it is independent, and the ledger tells each trial's start anyway; what the bound asks for is that it
is not published beside the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from runner.errors import RequestError
from runner.privacy.accounting.random_stopping import TrialCount

KEY = "privacy.selection"
KIND = "selection"
"""Kind of the line in the ledger."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What was drawn for a sweep before its first trial."""

    sweep: str
    """Identity of the sweep."""
    question: str
    """Hash of what its trials are drawn from: two sweeps of one question draw once."""
    ledger: str
    """Folder of the ledger in which all its trials are recorded."""
    mean: float
    """Of the number of trials."""
    shape: float
    cells: int | None
    """Size of the grid; None for a search."""
    trials: int
    """K."""
    picks: tuple[int, ...] | None
    """Of a grid, which cell each trial runs."""

    @property
    def count(self) -> TrialCount:
        """The distribution of the number of trials."""
        return TrialCount(mean=self.mean, shape=self.shape)

    @classmethod
    def from_plain(cls, found: Mapping[str, Any]) -> Self:
        """The draw that was written as ``plain()``.

        Raises:
            KeyError, TypeError, ValueError: it is another thing.
        """
        picks = None if found["picks"] is None else tuple(int(pick) for pick in found["picks"])
        draw = cls(**{name: found[name] for name in cls.__dataclass_fields__} | {"picks": picks})
        if draw.trials < 1 or (picks is not None and len(picks) != draw.trials):
            raise ValueError(f"{draw.trials} trials, of which {picks} were drawn")
        return draw

    def plain(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"picks": None if self.picks is None else list(self.picks)}

    def line(self, split: str) -> dict[str, Any]:
        """The ledger's line; ``split`` is the fingerprint of the examples that every trial trains on."""
        kept = {name: value for name, value in self.plain().items() if name != "ledger"}
        return {"kind": KIND, **kept, "split": split}

    def require_ledger(self, folder: Path) -> None:
        """Refuse another ledger than that of the first start, where no trial would be known.

        Raises:
            RequestError: ``folder`` is another one.
        """
        if str(folder.absolute()) != self.ledger:
            raise RequestError("privacy.ledger_dir", folder, f"{self.ledger}, as the trials were drawn with")

    def require_same(self, asked: Draw, place: object) -> None:
        """Refuse to go on with these trials where ``asked`` would have drawn from something else.

        Raises:
            RequestError: names what differs; ``place`` is where these trials are kept.
        """
        if (self.mean, self.shape, self.cells) != (asked.mean, asked.shape, asked.cells):
            raise RequestError(KEY, asked.described(), f"{self.described()}, as {place} began")
        if self.question != asked.question:
            raise RequestError(
                KEY, "random_stopping of other settings", f"those of {place}, or another hydra.sweep.dir"
            )

    def described(self) -> str:
        """What was drawn from, in a few words; not what was drawn."""
        what = "a search" if self.cells is None else f"{self.cells} cells"
        return f"{what}, mean {self.mean:g}, shape {self.shape:g}"


def find_draw(lines: Sequence[Mapping[str, Any]], sweep: str | None) -> Mapping[str, Any] | None:
    """The line of the ledger about what was drawn for ``sweep``; None where nothing was."""
    return next((line for line in lines if line["kind"] == KIND and line["sweep"] == sweep), None)


def refuse_drawn_before(lines: Sequence[Mapping[str, Any]], draw: Draw) -> None:
    """Refuse to draw once more for a question whose trials were drawn already, for another sweep.

    Raises:
        RequestError: they were; the bound does not hold for the better of two draws.
    """
    for line in lines:
        if line["kind"] == KIND and line["question"] == draw.question and line["sweep"] != draw.sweep:
            raise RequestError(
                KEY,
                f"random_stopping for trials that the ledger knows as drawn before ({line['time']})",
                "to go on in the folder and study of that sweep, or privacy.selection=composition",
            )

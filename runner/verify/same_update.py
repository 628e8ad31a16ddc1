"""Checks that cells which differ in performance settings only compute the same update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from runner.errors import RequestError, RunError
from runner.report.cells import CellResult, SweepResults
from runner.report.one_computation import settings_apart
from runner.report.update_checks import UpdateCheck

if TYPE_CHECKING:
    from runner.verify.one_update import Update

TOLERANCE = 1e-9
"""Largest relative difference in float64 that is rounding: equal updates differ by 1e-16 to 1e-14, those of a net with
BatchNorm by 1e-3 and more."""


def pairs_to_check(sweep: SweepResults) -> list[tuple[CellResult, CellResult]]:
    """Cells of one identity whose performance settings differ, each against the first; once for all seeds.

    Nothing is imported to find out that there are none, which is what most sweeps have.
    """
    members: dict[str, list[CellResult]] = {}
    for cell in sweep.finished:
        if cell.identity is not None:
            members.setdefault(cell.identity, []).append(cell)
    found: list[tuple[CellResult, CellResult]] = []
    seen = set()
    for cells in members.values():
        for other in cells[1:]:
            settings = tuple(settings_apart(_plan(cells[0]), _plan(other)))
            recipe = (settings, repr({**_semantic(cells[0]), "seed": None}))
            if settings and recipe not in seen:
                seen.add(recipe)
                found.append((cells[0], other))
    return found


def check_updates(pairs: Sequence[tuple[CellResult, CellResult]]) -> Iterator[UpdateCheck]:
    """Compute one update of each cell of ``pairs`` on the same examples, and compare; imports torch."""
    for one, other in pairs:
        settings = tuple(settings_apart(_plan(one), _plan(other)))
        try:
            yield _check(one, other, settings)
        except (RequestError, RunError) as error:
            yield UpdateCheck(
                cells=(one.name, other.name), settings=settings, difference=None, own_difference=None, equal=None,
                causes=(str(error),),
            )  # fmt: skip


def _check(one: CellResult, other: CellResult, settings: tuple[str, ...]) -> UpdateCheck:
    from runner.verify.one_update import MIXING, Variant, compute_updates

    def compute(cell: CellResult, variants: Sequence[Variant]) -> list[Update | None]:
        assert cell.identity is not None
        return compute_updates(cell.folder, cell.identity, _performance(cell), variants)

    variants = [Variant(float64=True), Variant(float64=False)]
    (exact, own), (other_exact, other_own) = (compute(cell, variants) for cell in (one, other))
    difference = _difference(exact, other_exact)
    if difference is None:
        raise RunError("the gradient is not finite")
    causes: tuple[str, ...] = ()
    if difference > TOLERANCE:
        suspects = [kinds for n in (1, 2) for kinds in combinations(MIXING, n)]
        held = [Variant(float64=True, still=kinds) for kinds in suspects]
        for kinds, first, second in zip(suspects, compute(one, held), compute(other, held), strict=True):
            still = _difference(first, second)
            if still is not None and still <= TOLERANCE:
                causes = kinds
                break
    return UpdateCheck(
        cells=(one.name, other.name),
        settings=settings,
        difference=difference,
        own_difference=_difference(own, other_own, weights=False),
        equal=difference <= TOLERANCE,
        causes=causes,
    )


def _difference(one: Update | None, other: Update | None, *, weights: bool = True) -> float | None:
    """Largest difference over the largest value, of the gradient and, if asked, of the weights' change.

    Weights are left out in low precision: Adam makes a sign of a gradient that is nothing but rounding.
    """
    if one is None or other is None:
        return None
    pairs = [(one.gradient, other.gradient), *([(one.change, other.change)] if weights else [])]
    return max(((a - b).abs().max() / b.abs().max().clamp(min=1e-300)).item() for a, b in pairs)


def _plan(cell: CellResult) -> Any:
    assert cell.record is not None
    return cell.record.plan


def _performance(cell: CellResult) -> dict[str, Any]:
    return dict(_plan(cell)["performance"])


def _semantic(cell: CellResult) -> dict[str, Any]:
    return dict(_plan(cell)["semantic"])

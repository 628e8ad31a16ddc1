"""Weights that a private run must not begin from: those of a run that saw its images without privacy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.weights_of_run import weights_file
from runner.disk.json_files import read_json
from runner.errors import RequestError
from runner.privacy.ledger.void_runs import void_reason

if TYPE_CHECKING:
    from runner.data.images import ImageData


def refuse_weights_of_the_same_images(weights: str | None, data: ImageData) -> None:
    """Refuse ``model.weights`` of a run without an epsilon that was trained on the images of ``data``.

    The epsilon of a run speaks of its own updates; what its first weights know of the images is in its last ones, too.
    A private run's is in the ledger of these images, and added up there.  Of a file that lies in no run's folder, and
    of sets that share some images only, nothing is known here.

    Raises:
        RequestError: such weights are asked for.
    """
    record = {} if weights in (None, "DEFAULT") else _run_of(weights_file(str(weights)))
    plan = record.get("plan") or {}
    covered = (record.get("privacy") or {}).get("epsilon") is not None
    if covered and not record.get("void") and void_reason(plan) is None:
        return
    if _names(plan.get("semantic", {}).get("data", {})) & {data.fingerprint, data.origin, _contents(data)}:
        raise RequestError(
            "model.weights",
            f"{weights} (trained on these images without privacy)",
            "weights that never saw the private images, or those of a private run",
        )


def _run_of(file: Path) -> dict[str, Any]:
    """The record of the run whose checkpoint ``file`` belongs to; empty where there is none that can be read."""
    for folder in list(file.resolve().parents)[:3]:
        try:
            found = read_json(folder / "run.json")
        except (OSError, ValueError):
            continue
        return found if isinstance(found, dict) else {}
    return {}


def _contents(data: ImageData) -> str | None:
    return None if data.contents is None else data.contents.name


def _names(planned: Any) -> set[str]:
    """By which the images of a plan are known."""
    return {str(planned[key]) for key in ("fingerprint", "origin", "contents") if planned.get(key)}

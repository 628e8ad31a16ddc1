"""Forecasts that were asked for before a run, kept until the run has shown how far off they were."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.cache.folder_cache import cache_folder
from runner.disk.json_files import read_json
from runner.disk.ownership import foreign
from runner.records.json_values import write_json
from runner.records.run_file import FINISHED, RunRecord

if TYPE_CHECKING:
    from runner.forecast.forecast import Forecast
    from runner.planning.plan import Plan

log = logging.getLogger(__name__)

FOLDER = "plans"


def save_forecast(plan: Plan, forecast: Forecast, *, cache_dir: str | None) -> None:
    """Remember what was foreseen for ``plan``, in place of an earlier forecast of the same plan.

    A cache that cannot be written keeps nothing.
    """
    path = _path(plan, cache_dir)
    kept = {
        "method": forecast.method,
        "foreseen": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": forecast.seconds.expected,
        "peak_bytes": forecast.peak_bytes.expected,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, kept)
    except OSError as error:
        reason = error.strerror or str(error)
        log.warning("the forecast is not kept in %s (%s): the run will not say how far off it was", path.parent, reason)


def find_forecast(plan: Plan, *, cache_dir: str | None) -> dict[str, Any] | None:
    """What was foreseen for this very plan on this device; None when nobody asked."""
    path = _path(plan, cache_dir)
    try:
        if foreign(path):
            return None
        kept = read_json(path)
        return {key: kept[key] for key in ("method", "foreseen", "seconds", "peak_bytes")}
    except (OSError, ValueError, TypeError, KeyError):
        return None  # a cache: what cannot be read is as if it had not been asked


def with_forecast_error(record: RunRecord) -> RunRecord:
    """A ``record`` that has ended, with the errors of what was foreseen where the run did all that it was to do.

    An error is a share of the measured figure, positive where too much was foreseen.
    """
    foreseen, peak = record.prediction, record.memory.peak_bytes
    if foreseen is None or record.status not in FINISHED or not record.seconds or not peak:
        return record
    errors = {
        "seconds_error": foreseen["seconds"] / record.seconds - 1,
        "peak_bytes_error": foreseen["peak_bytes"] / peak - 1,
    }
    return dataclasses.replace(record, prediction={**foreseen, **errors})


def _path(plan: Plan, cache_dir: str | None) -> Path:
    performance = dataclasses.asdict(plan.performance)
    # chosen by measurement when the parts are built, which a plan without a probe leaves out
    for key in ("grad_sample", "grad_sample_reason"):
        del performance[key]
    key = hashlib.sha256(json.dumps([plan.identity, performance], sort_keys=True).encode()).hexdigest()
    return cache_folder(cache_dir) / FOLDER / f"{key}.json"

"""TensorBoard: event files in the run's folder, without an account, a service or a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from runner.config.schema import TrackerConfig
from runner.records.json_values import encode_pretty
from runner.records.metrics import Record
from runner.records.sink import RunInfo


class TensorBoardSink:
    """Copies every figure of every record to ``<run folder>/tensorboard``, as ``<kind>/<figure>`` at its step.

    TensorBoard keeps figures as float32 and knows no null: a figure that was not finite appears as NaN.
    """

    requires = "tensorboard"
    traceless: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, config: TrackerConfig, *, warn: Callable[[str], None]) -> None:
        """Do nothing yet: tensorboard takes two seconds to import, which ``start`` does on the guard's thread."""
        self.run_id: str | None = None

    def start(self, info: RunInfo) -> None:
        """Open an event file and note the configuration in it."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(info.run_dir / "tensorboard"))
        self._writer.add_text("config", f"```json\n{encode_pretty(info.config)}```")

    def log(self, record: Record) -> None:
        """Write the record's figures."""
        for key, value in record.items():
            if key not in ("step", "kind") and (value is None or isinstance(value, (bool, int, float))):
                figure = math.nan if value is None else float(value)
                self._writer.add_scalar(f"{record['kind']}/{key}", figure, record["step"])

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        """Note the run's metrics as text and close the file."""
        self._writer.add_text("summary", f"```json\n{encode_pretty({**summary, 'exit_code': exit_code})}```")
        self._writer.close()

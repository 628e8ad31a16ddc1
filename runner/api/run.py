"""``run("trainer=dp", "privacy.epsilon=3")``: one run, and what it left in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.api.called_request import read_call
from runner.api.caller import load_torch, randomness_kept, undisturbed
from runner.api.data_frame import data_frame
from runner.api.interruption import interruptible, tell_interrupted
from runner.api.overrides import Value, call_of, flags_in
from runner.api.start_run import start_run
from runner.api.summary import html_table, text_table
from runner.config.untrusted.run_config import CONFIG_FILE, read_plain
from runner.errors import ExitCode, RequestError, RunError
from runner.records.console import result_rows
from runner.records.metrics import METRICS_FILE, read_metrics
from runner.records.run_file import read_run

if TYPE_CHECKING:
    import pandas as pd

    from runner.config.schema import DeviceKind
    from runner.inference.predictor import Predictor
    from runner.records.run_file import PrivacySpent, RunRecord


@dataclass(frozen=True, repr=False)
class Run:
    """A run that has ended, or that was under way when it was opened: what ``run.json`` and its folder say of it."""

    folder: Path
    """Where its files are, absolute."""
    record: RunRecord
    """All of ``run.json``."""

    @classmethod
    def open(cls, folder: str | PathLike[str]) -> Run:
        """The run in ``folder``, whoever started it.

        Raises:
            RequestError: there is no run.
            RunError: its ``run.json`` is damaged.
        """
        path = Path(folder).expanduser().absolute()
        try:
            return cls(path, read_run(path))
        except OSError as error:
            raise RequestError("folder", folder, "the folder of a run, with its run.json") from error

    @property
    def name(self) -> str:
        """``name`` of its configuration, or the names of data and model."""
        return self.record.name

    @property
    def status(self) -> str:
        """How it ended: ``completed``, ``interrupted``, ``failed``, ``pruned``; or ``running``.

        ``budget_exhausted`` is the end of one that was to train as long as its privacy budget lasts, and did.
        """
        return self.record.status

    @property
    def metrics(self) -> dict[str, float | None]:
        """Figures of the end: ``train_loss``, ``val_loss``, ``val_accuracy``, ``test_loss`` and ``test_accuracy``.

        Losses are nats per example, accuracies shares in [0, 1]; None where there was no such split.
        """
        return dict(vars(self.record.metrics))

    @property
    def privacy(self) -> PrivacySpent | None:
        """The guarantee and what it was computed from; None without differential privacy."""
        return self.record.privacy

    @property
    def epsilon(self) -> float | None:
        """The ε that was spent; None where there is no guarantee."""
        return None if self.record.privacy is None else self.record.privacy.epsilon

    @property
    def config(self) -> Mapping[str, Any]:
        """The composed configuration as plain values, by group: ``config["optimizer"]["lr"]``.

        Raises:
            RequestError: the folder has none.
        """
        try:
            return read_plain(self.folder)
        except OSError as error:
            raise RequestError("folder", self.folder, f"the folder of a run, with its {CONFIG_FILE}") from error

    def history(self) -> pd.DataFrame:
        """A row for each record of ``metrics.jsonl``, in order.

        Columns are ``step``, ``epoch``, ``kind`` (``train``, ``val`` or ``test``) and what was measured.

        Raises:
            RequestError: pandas is not installed.
            RunError: the file is damaged.
        """
        path = self.folder / METRICS_FILE
        return data_frame(read_metrics(path) if path.exists() else [], columns=("step", "epoch", "kind"))

    def model(self, device: DeviceKind = "auto") -> Predictor:
        """The trained model with its preprocessing, as ``load_run`` gives it.

        Raises:
            RequestError: the run is not finished, or the device is not here.
        """
        from runner.inference.predictor import load_run

        return load_run(self.folder, device=device)

    def __repr__(self) -> str:
        return text_table(self._title(), self._rows())

    def _repr_html_(self) -> str:
        return html_table(self._title(), self._rows())

    def _title(self) -> str:
        return f"{self.name}: {self.status.replace('_', ' ')}"

    def _rows(self) -> list[tuple[str, str]]:
        return [*result_rows(self.record), ("folder", str(self.folder))]


def run(*overrides: str, **values: Value) -> Run:
    """Train one recipe in this process, as ``python -m runner`` does, and return what it found.

    Args:
        overrides: ``"key=value"`` or ``"group=option"``, as they are typed on the command line.
        values: keys and their values: ``seed=1``, ``resume=folder``, ``**{"privacy.epsilon": 3}``; and ``config_dir``
            and ``config_name``, which are the flags ``--config-dir`` and ``--config-name``.

    Raises:
        RequestError: it cannot be run as typed; nothing was started.
        RunError: it failed on the way; ``folder`` of the error has its log.
        KeyboardInterrupt: Ctrl-C, or another signal that asks a run to end, stopped it; it can be resumed.
    """
    with undisturbed("run"):
        call = read_call(overrides, values, multirun=False)
        assert call.request.run_dir is not None
        folder = call.request.run_dir.absolute()
        argv = [*call.flags, *call.request.lines]
        load_torch()
        with randomness_kept():
            end = interruptible(lambda: start_run(call.composer, call.request, argv, from_python=True))
    if end is None or end.exit_code == ExitCode.INTERRUPTED:
        again = call_of("run", (), {"resume": str(folder), **flags_in(values)})
        tell_interrupted(again if folder.is_dir() else None)
        raise KeyboardInterrupt
    attempt = end.attempt
    if attempt is not None and attempt.refusal is not None:
        raise attempt.refusal
    if attempt is None or attempt.error is not None:
        line = f"Hydra ended with code {end.exit_code}" if attempt is None else attempt.error
        raise RunError(f"{line} (in {folder})", folder=folder)
    return Run.open(folder)

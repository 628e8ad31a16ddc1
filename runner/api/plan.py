"""``plan("trainer=dp", "privacy.epsilon=3")``: what a run would be and what it would take, without running it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.api.caller import load_torch, randomness_kept, undisturbed
from runner.api.composed_request import print_notes
from runner.api.interruption import interruptible
from runner.api.overrides import Value, read_values
from runner.config.compose import Composer
from runner.config.request.hydra_record import ROOT
from runner.config.request.request import Request, check_run, read_request
from runner.config.request.search_path import searched, with_last_search_path
from runner.config.schema import RunConfig
from runner.config.words.expand_user import expand_user_in_lines
from runner.config.words.override_lines import key_of, warn_repeated
from runner.environment.address_space import require_room_for_torch
from runner.errors import RequestError
from runner.forecast.bookkeeper import bookkeeper
from runner.forecast.describe import describe, described
from runner.records.forecast_file import save_forecast
from runner.training.garbage_collection import collection_paused

if TYPE_CHECKING:
    from runner.forecast.assess import Assessment
    from runner.forecast.forecast import Interval


@dataclass(frozen=True, repr=False)
class RunPlan:
    """What a run would be and what it would take."""

    assessment: Assessment
    """All that is known, typed."""

    @property
    def seconds(self) -> Interval:
        """Wall time of the run: ``expected``, and the interval from ``low`` to ``high`` in which it should lie."""
        return self.assessment.forecast.seconds

    @property
    def memory(self) -> Interval:
        """Largest memory of a process in bytes: device memory on CUDA, resident memory on a CPU."""
        return self.assessment.forecast.peak_bytes

    @property
    def epsilon(self) -> float | None:
        """The ε that it would spend; None without a guarantee."""
        privacy = self.assessment.plan.semantic.privacy
        return None if privacy is None or privacy.unsafe_noise_seed is not None else privacy.epsilon

    @property
    def warnings(self) -> list[str]:
        """What is likely to go wrong, a line each: the key, what, the evidence and the cure."""
        return [f"{one.key}: {one.what} ({one.evidence}); {one.cure}" for one in self.assessment.warnings]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, as ``python -m runner plan --json`` has it."""
        return described(self.assessment)

    def __repr__(self) -> str:
        return "\n".join(describe(self.assessment))

    def _repr_html_(self) -> str:
        style = "font-family:monospace;line-height:1.3;white-space:pre;overflow-x:auto"
        return f'<pre style="{style}">{escape(repr(self))}</pre>'


def plan(*overrides: str, **values: Value) -> RunPlan:
    """Plan one run, as ``python -m runner plan`` does.

    Args:
        overrides: as for ``run``.
        values: as for ``run``; and ``probe``, whether its first updates are made, in memory only (True). With
            ``probe=False`` figures are within a factor of 2.

    Raises:
        RequestError: it could not be run as typed.
        RunError: there is no memory for one example, or the first updates would end the run.
    """
    with undisturbed("plan"):
        probe = bool(values.pop("probe", True))
        typed, config_dir, root = read_values(overrides, values)
        warn_repeated(typed)
        _, request = read_plan_request(typed, multirun=False, config_dir=config_dir, root=root)
        if request.multirun:
            raise RequestError("plan()", " ".join(typed), "one run; python -m runner plan takes several")
        (config,) = request.configs
        with collection_paused():
            load_torch()
        with randomness_kept():
            found = interruptible(lambda: assess_run(config, probe=probe))
    if found is None:
        raise KeyboardInterrupt
    return RunPlan(found)


def read_plan_request(
    typed: list[str], *, multirun: bool, config_dir: Path | None, root: str = ROOT
) -> tuple[list[str], Request]:
    """The overrides ``typed``, homes put in, and the run or the sweep that they ask for, checked; no folder is made.

    Raises:
        RequestError: it could not be run as typed, or goes on with a run that was begun.
    """
    lines = with_last_search_path(expand_user_in_lines(typed))
    for line in lines:
        if key_of(line) == "resume":
            raise RequestError("resume", line.partition("=")[2], "no resume: what was begun has its plan in run.json")
    if config_dir is not None and not config_dir.is_dir():
        raise RequestError("--config-dir", config_dir, "a folder that exists")
    composer = Composer(caller=Path.cwd(), extra=config_dir, search=searched(lines), root=root, writes=False)
    request = read_request(composer, lines, multirun=multirun, check=check_run)
    print_notes(composer.notes)
    require_room_for_torch()
    return lines, request


def assess_run(config: RunConfig, *, probe: bool) -> Assessment:
    """Assess one run, and keep its forecast for the run to be judged by; imports torch.

    Raises:
        RequestError: the request does not fit the data or the machine.
        RunError: there is no memory for one example, or the first updates would end the run.
    """
    with bookkeeper(config) as keep_books:
        with collection_paused():
            from runner.forecast.assess import assess

        assessment = assess(config, probe=probe, keep_books=keep_books)
    if assessment.device.here:
        save_forecast(assessment.plan, assessment.forecast, cache_dir=config.data.cache_dir)
    return assessment

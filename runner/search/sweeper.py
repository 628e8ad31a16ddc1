"""The plug-in that Hydra finds as ``hydra/sweeper=optuna``."""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.sweeping.multirun_file import set_task


class SearchSweeper(Sweeper):
    """The sweeper of hydra-optuna-sweeper with pruners, studies that go on, several workers, and constraints."""

    def __init__(self, **keys: Any) -> None:
        """``keys`` are those of ``SearchConfig``, which the search reads from the whole configuration."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra once, with the configuration of the sweep."""
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self._config = config
        # the sweep itself: it knows what was asked, and composes what is drawn
        self._asked: Any = task_function

    def sweep(self, arguments: list[str]) -> None:
        """Called by Hydra with the overrides that are not its own; returns when the study has its trials.

        Raises:
            RequestError: the search cannot be, or the next trial would pass ``privacy.sweep_epsilon``.
            RunError: it ended without an answer.
        """
        from runner.search.worker import Worker

        request = self._asked.request
        set_task(self._config, [*arguments, *request.deferred])
        Worker(self._config, self._asked.composer, self._launcher, request.lines).work()

"""Keys without effect because of another key: noted for a run, refused where a sweep varies them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from runner.config.schema import RunConfig
from runner.errors import RequestError

_HALF = ("float16", "auto", "auto16")
"""Types that may turn out to be float16."""


@dataclass(frozen=True)
class _Needs:
    keys: tuple[str, ...]
    takes_effect: Callable[[RunConfig], bool]
    needs: str
    """What gives the keys a say, as it would be typed."""


_WITHOUT_FILES = tuple(
    f"runner.data.{name}"
    for name in ("digits.load_digits", "synthetic.make_synthetic", "torchvision_sets.load_torchvision")
)
"""Sources that read no image files of the user's."""


_NEEDS = (
    _Needs(("data.on_bad_file",), lambda run: run.data.target not in _WITHOUT_FILES, "data=image_folder"),
    _Needs(
        ("optimizer.decay_norm_and_bias",), lambda run: run.optimizer.weight_decay > 0, "optimizer.weight_decay=0.01"
    ),
    _Needs(("data.folds",), lambda run: run.data.fold is not None, "data.fold=0"),
    _Needs(
        ("data.augment.crop_area",),
        lambda run: run.data.augment.random_resized_crop,
        "data.augment.random_resized_crop=true",
    ),
    _Needs(
        ("data.augment.rand_augment_magnitude",),
        lambda run: run.data.augment.rand_augment > 0,
        "data.augment.rand_augment=2",
    ),
    _Needs(("data.augment.erasing_area",), lambda run: run.data.augment.erasing > 0, "data.augment.erasing=0.25"),
    _Needs(("scheduler.warmup_start",), lambda run: run.scheduler.warmup_epochs > 0, "scheduler.warmup_epochs=1"),
    _Needs(
        ("precision.max_skipped_in_a_row",), lambda run: run.precision.amp_dtype in _HALF, "precision=fp16"
    ),
    _Needs(
        tuple(f"precision.{key}" for key in ("init_scale", "growth_factor", "backoff_factor", "growth_interval")),
        lambda run: run.precision.amp_dtype in _HALF and not run.privacy.enabled,
        "precision=fp16, and a run that is not private",
    ),
    _Needs(
        ("precision.static_scale",),
        lambda run: run.precision.amp_dtype in _HALF and run.privacy.enabled,
        "trainer=dp precision=fp16",
    ),
    _Needs(
        tuple(f"tracker.{key}" for key in ("project", "entity", "group", "mode", "tags")),
        lambda run: run.tracker.target is not None,
        "a tracker, such as tracker=wandb",
    ),
)  # fmt: skip


def ineffective_keys(typed: Iterable[str], runs: Sequence[RunConfig]) -> list[str]:
    """What to say of the ``typed`` keys that have no say in any of ``runs``."""
    return [f"{key} changes nothing without {one.needs}" for key, one in _idle(typed, runs)]


def refuse_ineffective_sweeps(varied: Iterable[str], runs: Sequence[RunConfig]) -> None:
    """Refuse a sweep over a key that has no say in any of its ``runs``: its recipes would be one.

    Raises:
        RequestError: names the key and what it needs.
    """
    for key, one in _idle(varied, runs):
        raise RequestError(key, "several values, of which none changes anything", f"them beside {one.needs}")


def _idle(keys: Iterable[str], runs: Sequence[RunConfig]) -> list[tuple[str, _Needs]]:
    needs = {key: one for one in _NEEDS for key in one.keys}
    return [(key, needs[key]) for key in keys if key in needs and not any(map(needs[key].takes_effect, runs))]

"""Rules of a typed configuration: ranges, choices, and dependencies across groups.

What only a trainer can say (``trainer=dp`` with ``privacy=none``) stands in the trainer's own ``check``; what needs the
data or the device is said by the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.config.groups import CLOSED, OPEN
from runner.config.rules.batches import BATCH_RELATIONS
from runner.config.rules.choices import Choices, choices_of_schema
from runner.config.rules.comparison_rules import a_comparison_can_be_made
from runner.config.rules.compilation_rules import COMPILATION_RELATIONS
from runner.config.rules.feature_rules import rounded_features_are_kept
from runner.config.rules.privacy_rules import PRIVACY_RELATIONS
from runner.config.rules.ranges import (
    AT_LEAST_0,
    AT_LEAST_1,
    BATCH_SIZE,
    INSIDE_0_1,
    MEMORY,
    POSITIVE,
    SEED,
    SHARE,
    SHARE_ABOVE_0,
    SHARE_BELOW_1,
    Bytes,
    NumbersOr,
    Range,
    WholeNumberOr,
)
from runner.config.rules.task_rules import TASK_RELATIONS, Loss
from runner.config.rules.tracker_rules import TRACKER_RELATIONS
from runner.config.schema import RunConfig
from runner.config.untrusted.targets import check_target, refuse_instructions
from runner.config.weights_of_run import weights_file
from runner.config.words.expand_user import expand_user
from runner.errors import RequestError

RULES: dict[str, Range | Choices | WholeNumberOr | NumbersOr | Loss | Bytes] = {
    **choices_of_schema(),
    "seed": SEED,
    "seeds": AT_LEAST_1,
    "folds": Range(2),
    "data.batch_size": BATCH_SIZE,
    "data.eval_batch_size": AT_LEAST_1,
    "data.image_size": AT_LEAST_1,
    "data.channels": Range(1, 1024),
    "data.max_pixels": AT_LEAST_1,
    "data.val_fraction": SHARE_BELOW_1,
    "data.test_fraction": SHARE_BELOW_1,
    "data.split_seed": SEED,
    "data.folds": Range(2),
    "data.fold": AT_LEAST_0,
    "data.limit": AT_LEAST_1,
    "data.mean": SHARE,
    "data.std": SHARE_ABOVE_0,
    "data.augment.crop_padding": AT_LEAST_0,
    "data.augment.crop_area": SHARE_ABOVE_0,
    "data.augment.color_jitter": SHARE,
    "data.augment.hue": Range(0, 0.5),
    "data.augment.rotation": Range(0, 180),
    "data.augment.rand_augment": Range(0, 5),
    "data.augment.rand_augment_magnitude": Range(0, 30),
    "data.augment.erasing": SHARE,
    "data.augment.mixup": AT_LEAST_0,
    "data.augment.cutmix": AT_LEAST_0,
    "data.augment.erasing_area": SHARE_ABOVE_0,
    "task.loss": Loss(),
    "task.focal_gamma": AT_LEAST_0,
    "task.class_weights": NumbersOr("balanced"),
    "trainer.epochs": POSITIVE,
    "trainer.steps": AT_LEAST_1,
    "trainer.accumulation_steps": AT_LEAST_1,
    "trainer.effective_batch_size": AT_LEAST_1,
    "trainer.clip_norm": POSITIVE,
    "trainer.ema_decay": SHARE_BELOW_1,
    "trainer.label_smoothing": SHARE_BELOW_1,
    "trainer.eval_every": AT_LEAST_1,
    "trainer.save_every": AT_LEAST_1,
    "trainer.log_every": AT_LEAST_1,
    "trainer.patience": AT_LEAST_1,
    "trainer.min_delta": AT_LEAST_0,
    "precision.init_scale": POSITIVE,
    "precision.growth_factor": Range(1, open_low=True),
    "precision.backoff_factor": INSIDE_0_1,
    "precision.growth_interval": AT_LEAST_1,
    "precision.max_skipped_in_a_row": AT_LEAST_1,
    "precision.static_scale": POSITIVE,
    # beyond these the accountants overflow, and nobody wants the model either
    "privacy.epsilon": Range(1e-3, 1e4),
    "privacy.noise_multiplier": Range(1e-2, 1e4),
    "privacy.delta": INSIDE_0_1,
    "privacy.max_grad_norm": POSITIVE,
    "privacy.augmentation_multiplicity": AT_LEAST_1,
    "privacy.sweep_epsilon": POSITIVE,
    "privacy.selection_trials": AT_LEAST_1,
    "privacy.selection_shape": Range(0, 100),
    "privacy.unsafe_noise_seed": SEED,
    "hardware.processes": Range(1, 1024),
    "hardware.threads": Range(1, 1024),
    "hardware.price_per_hour": AT_LEAST_0,
    "hardware.probe_seconds": POSITIVE,
    "hardware.memory_limit": MEMORY,
    "hardware.micro_batch": AT_LEAST_1,
    "comparison.margin": POSITIVE,
    "comparison.confidence": INSIDE_0_1,
    "comparison.failure_rate": INSIDE_0_1,
    "comparison.max_seeds": Range(2),
    "comparison.max_hours": POSITIVE,
    "optimizer.lr": POSITIVE,
    "optimizer.reference_batch_size": AT_LEAST_1,
    "optimizer.weight_decay": AT_LEAST_0,
    "optimizer.momentum": SHARE_BELOW_1,
    "optimizer.dampening": SHARE,
    "optimizer.betas": SHARE_BELOW_1,
    "optimizer.alpha": SHARE_BELOW_1,
    "optimizer.eps": POSITIVE,
    "scheduler.warmup_epochs": AT_LEAST_0,
    "scheduler.warmup_start": SHARE,
    "scheduler.final_factor": SHARE,
    "scheduler.min_factor": SHARE,
    "scheduler.gamma": SHARE_ABOVE_0,
    "scheduler.factor": INSIDE_0_1,
    "scheduler.step_epochs": POSITIVE,
    "scheduler.patience": AT_LEAST_0,
    "scheduler.threshold": SHARE,
}
"""Dotted key -> what its value must be, where it is not null.  Options of the open groups are here by their usual
names; one that no option has is not looked at."""

FREE = {
    "name": "see _a_name_is_no_path",
    "resume": "see _resume_is_typed",
    "data.name": "any label",
    "data.root": "looked up by the source",
    "data.value_range": "see _value_range_is_ordered",
    "data.cache_dir": "made when it is missing",
    "data.augment": "its fields have rules",
    "model.name": "looked up by the factory",
    "model.weights": "a word of the library's, a file or a run, looked up by the factory",
    "trainer.name": "any label",
    "privacy.ledger_dir": "made when it is missing",
    "tracker.name": "any label",
    "tracker.project": "the tracker's own rules",
    "tracker.entity": "the tracker's own rules",
    "tracker.group": "the tracker's own rules",
    "tracker.tags": "any labels",
    "comparison.by": "looked up in the cells of the sweep",
    "comparison.reference": "looked up in the cells of the sweep",
    "optimizer.name": "any label",
    "scheduler.name": "any label",
    "task.name": "any label",
}
"""Fields that neither a range nor a choice describes, and why.  Booleans and ``target`` need none either."""


def check(config: RunConfig) -> None:
    """Raise ``RequestError`` for the first thing in ``config`` that cannot be: targets, then ranges, then relations."""
    check_values(config)
    for relation in RELATIONS:
        relation(config)


def check_values(config: RunConfig) -> None:
    """The part of ``check`` that looks at each value by itself, for a configuration of which some keys are yet open."""
    _check_targets(config)
    for key, rule in RULES.items():
        value = value_at(config, key)
        if value is not None:
            rule.check(key, value)


def _check_targets(config: RunConfig) -> None:
    """Every import path in ``config`` is one of a group's own; what it stands for is asked where it is located."""
    for group in (*OPEN, *CLOSED):
        part = getattr(config, group)
        if hasattr(part, "target") and not (group == "tracker" and part.target is None):
            check_target(group, part.target)
        refuse_instructions(group, getattr(part, "options", {}))


def value_at(config: RunConfig, key: str) -> Any:
    """The value at a dotted key, among fields or options; None where there is none."""
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name) if hasattr(value, name) else getattr(value, "options", {}).get(name)
    return value


def _paths_are_not_empty(config: RunConfig) -> None:
    """An empty path means the working folder to the file system, and nothing to who typed it."""
    for key in ("data.root", "data.cache_dir", "model.weights"):
        if value_at(config, key) == "":
            raise RequestError(key, "nothing", "a path, or null")


def _what_is_named_is_there(config: RunConfig) -> None:
    """Asked again by who reads it; here it is answered for all cells of a grid at once, and without torch.

    What can be downloaded is left to its source, which names the files.
    """
    root, weights = config.data.root, config.model.weights
    if root is not None and "download" not in config.data.options and not Path(expand_user(root)).exists():
        raise RequestError("data.root", f"{root} (does not exist)", "a folder that exists")
    if weights not in (None, "DEFAULT") and not weights_file(str(weights)).is_file():
        why = "not a file" if Path(str(weights)).exists() else "does not exist"
        inside = [Path(str(weights), *folders, "model.safetensors") for folders in ((), ("best",))]
        meant = next((f"model.weights={file}" for file in inside if file.is_file()), "the folder of a run that saved")
        raise RequestError("model.weights", f"{weights} ({why})", f"DEFAULT, a file that can be read, or {meant}")


_WITHOUT_ROOT = ("runner.data.digits.load_digits", "runner.data.synthetic.make_synthetic")
"""Sources of the runner's own that read no folder."""


def _the_source_reads_the_root(config: RunConfig) -> None:
    """Who names a folder of photos and gets other images would not see it from the accuracy."""
    if config.data.root is not None and config.data.target in _WITHOUT_ROOT:
        got = f"{config.data.root} with data={config.data.name}, which reads no folder"
        raise RequestError("data.root", got, "data=image_folder, or another data set of files")


def _fractions_leave_training_data(config: RunConfig) -> None:
    data = config.data
    if data.fold is None and data.val_fraction + data.test_fraction >= 1:
        raise RequestError(
            "data.val_fraction", data.val_fraction, f"less than 1 - data.test_fraction = {1 - data.test_fraction:g}"
        )


def _fold_is_one_of_the_folds(config: RunConfig) -> None:
    data = config.data
    if data.fold is not None and data.fold >= data.folds:
        raise RequestError("data.fold", data.fold, f"a number from 0 to {data.folds - 1} (data.folds={data.folds})")


def _mean_and_std_fit(config: RunConfig) -> None:
    data = config.data
    if (data.mean is None) != (data.std is None):
        missing = "data.mean" if data.mean is None else "data.std"
        raise RequestError(missing, None, "a value, because mean and std go together")
    if data.mean is None or data.std is None:
        return
    # one value serves every channel
    wanted = (1, 3) if data.channels is None else (1, data.channels)
    if len(data.mean) not in wanted:
        raise RequestError("data.mean", data.mean, "one value, or one per channel")
    if len(data.std) != len(data.mean):
        raise RequestError("data.std", data.std, f"as many values as data.mean ({len(data.mean)})")


def _value_range_is_ordered(config: RunConfig) -> None:
    wanted = config.data.value_range
    if wanted is not None and (len(wanted) != 2 or wanted[0] >= wanted[1]):
        raise RequestError("data.value_range", wanted, "[black,white], such as [0,4095]")


def _areas_are_ordered(config: RunConfig) -> None:
    for key in ("crop_area", "erasing_area"):
        area = getattr(config.data.augment, key)
        if len(area) != 2 or area[0] > area[1]:
            raise RequestError(f"data.augment.{key}", area, "[smallest,largest]")


def _one_crop(config: RunConfig) -> None:
    augment = config.data.augment
    if augment.random_resized_crop and augment.crop_padding:
        raise RequestError(
            "data.augment.crop_padding", augment.crop_padding, "0 beside random_resized_crop=true, which crops already"
        )


def _one_policy(config: RunConfig) -> None:
    augment = config.data.augment
    if augment.rand_augment and augment.trivial_augment:
        raise RequestError(
            "data.augment.rand_augment",
            augment.rand_augment,
            "0 beside trivial_augment=true, which stands in its place",
        )


def _warmup_ends(config: RunConfig) -> None:
    trainer, scheduler = config.trainer, config.scheduler
    if trainer.steps is None and trainer.epochs is not None and scheduler.warmup_epochs > trainer.epochs:
        raise RequestError(
            "scheduler.warmup_epochs", scheduler.warmup_epochs, f"at most trainer.epochs={trainer.epochs:g}"
        )


def _nesterov_has_momentum(config: RunConfig) -> None:
    options = config.optimizer.options
    if options.get("nesterov") is True and not options.get("momentum"):
        raise RequestError("optimizer.nesterov", True, "false, or optimizer.momentum > 0")
    if options.get("nesterov") is True and options.get("dampening"):
        raise RequestError("optimizer.dampening", options["dampening"], "0 with optimizer.nesterov=true")


def _betas_are_two_or_three(config: RunConfig) -> None:
    """Which of both is for the class to say, when it has been imported."""
    betas = config.optimizer.options.get("betas")
    if betas is not None and len(betas) not in (2, 3):
        raise RequestError("optimizer.betas", betas, "two numbers in [0, 1), or three for adan")


def _private_gradients_come_from_one_pass(config: RunConfig) -> None:
    """Per-example gradients come from hooks and transforms of the model's own forward pass, run once."""
    if config.privacy.enabled and config.model.gradient_checkpointing:
        raise RequestError(
            "model.gradient_checkpointing",
            True,
            "false with trainer=dp, whose per-example gradients need what it throws away",
        )


def _processes_suit_the_device(config: RunConfig) -> None:
    hardware = config.hardware
    if hardware.device in ("cpu", "mps") and hardware.processes is None:
        raise RequestError(
            "hardware.processes", None, f"a number with hardware.device={hardware.device}: null means one per CUDA GPU"
        )
    if hardware.gpu is not None and hardware.device != "cuda":
        raise RequestError(
            "hardware.gpu", f"{hardware.gpu} with hardware.device={hardware.device}", f"hardware={hardware.gpu}"
        )
    if hardware.device == "mps" and hardware.processes != 1:
        raise RequestError("hardware.processes", hardware.processes, "1 with hardware.device=mps")


def _a_name_is_no_path(config: RunConfig) -> None:
    name = config.name
    if name is not None and (not name.strip() or any(c in "/\\" or not c.isprintable() for c in name)):
        raise RequestError("name", name, "a name without slashes and control characters")


def _resume_is_typed(config: RunConfig) -> None:
    if config.resume is not None:
        raise RequestError("resume", config.resume, "null in a file: it is for the command line")


RELATIONS: tuple[Callable[[RunConfig], None], ...] = (
    _resume_is_typed,
    _a_name_is_no_path,
    _paths_are_not_empty,
    _what_is_named_is_there,
    _the_source_reads_the_root,
    _fractions_leave_training_data,
    _fold_is_one_of_the_folds,
    _mean_and_std_fit,
    _value_range_is_ordered,
    _areas_are_ordered,
    _one_crop,
    _one_policy,
    _warmup_ends,
    _nesterov_has_momentum,
    _betas_are_two_or_three,
    *TASK_RELATIONS,
    *PRIVACY_RELATIONS,
    *BATCH_RELATIONS,
    _private_gradients_come_from_one_pass,
    *COMPILATION_RELATIONS,
    _processes_suit_the_device,
    *TRACKER_RELATIONS,
    rounded_features_are_kept,
    a_comparison_can_be_made,
)
"""Rules across keys and groups; each names the key to change and the cure."""

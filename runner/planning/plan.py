"""The plan: what will be run (semantic) and how (performance), frozen before the first step.

The loop sees a ``Plan`` and nothing else.  Two runs with equal semantic parts compute the same numbers up to
rounding, so the hash of that part is the identity of a run: a resumed run must match it, and a sweep recognises its
finished cells by it.  Performance settings may differ.  (The split follows jax_privacy's execution plan.)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from runner.config.choice import Choice, ChosenBy, evolve
from runner.config.identity import identity_fields, identity_of
from runner.config.schema import AugmentConfig, Interpolation, ModelConfig, OptimizerConfig, SchedulerConfig
from runner.config.words.pluralize import pluralize
from runner.privacy.accounting.privacy_text import delta_text, epsilon_text

_SHOWN = 5
"""Classes that are named to people."""


@dataclass(frozen=True, kw_only=True)
class DataPlan:
    """The examples."""

    name: str
    """Name of the data set."""
    fingerprint: str
    """SHA-256 of contents and split choices."""
    origin: str
    """SHA-256 of the contents alone, with the names of their files."""
    examples: int
    """Size of the training split."""
    num_classes: int
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: AugmentConfig
    contents: str | None = None
    """SHA-256 of the images alone, whatever their files are called and in any order; None where ``origin`` is that."""
    interpolation: Interpolation = "bilinear"
    """How images are resized."""
    size_of_model: bool = False
    """Whether ``image_size`` is the model's or its weights' own, where ``data.image_size`` left it open."""

    sampler: str = "shuffle"
    """``shuffle`` or ``balanced``."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape [C, H, W] of the images that the model takes."""
        return self.channels, self.image_size, self.image_size

    @property
    def ledger_name(self) -> str:
        """What the privacy ledger knows the data by."""
        return self.contents or self.origin


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """One split, for people: the fingerprint of the data says which images it holds."""

    name: str
    """``train``, ``val`` or ``test``."""
    examples: int
    source: str
    """A folder below the data's root, or what it was held out of; empty where there is nothing to say."""


@dataclass(frozen=True, kw_only=True)
class PrecisionPlan:
    """The arithmetic."""

    requested: str
    """``precision.amp_dtype`` as typed."""
    dtype: str
    """What will be used: float32, float64, bfloat16 or float16."""
    tf32: bool
    reason: str
    """Why ``dtype`` was taken."""
    init_scale: float
    growth_factor: float
    backoff_factor: float
    growth_interval: int
    max_skipped_in_a_row: int
    static_scale: float


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """The mechanism, complete: noise and accounting cannot disagree, because both read this."""

    epsilon: float
    """Upper bound of epsilon after all steps."""
    budget: float | None
    """Epsilon that may not be passed; None when noise and length were given instead."""
    solved: str
    """Which of ``epsilon``, ``noise_multiplier`` and ``steps`` followed from the other two."""
    delta: float
    noise_multiplier: float
    max_grad_norm: float
    augmentation_multiplicity: int
    """Augmented copies of each example, whose mean gradient is clipped."""
    sample_rate: float
    """Probability with which each example enters each logical batch: q = B / N."""
    accountant: str
    adjacency: str
    sampling: str
    unsafe_noise_seed: int | None
    validation: str
    """``private`` or ``public``: what the validation split was declared to be; ``none`` without one."""
    draws: str | None = None
    """Of what random draws that touch an example are a function: ``example``, of the secret key, the step and the
    example alone.  None in plans of earlier versions: of the public seed and the place in the batch."""


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """What is learned.  The defaults are what plans of earlier versions did."""

    target: str = "runner.tasks.classify.Classify"
    """Import path of the class that does it."""
    name: str = "classify"
    loss: str = "cross_entropy"
    """``cross_entropy``, ``focal``, or the import path of a function."""
    focal_gamma: float = 2.0
    class_weights: tuple[float, ...] | None = None
    """Factor of the loss of each class's examples; None for 1."""


@dataclass(frozen=True, kw_only=True)
class SemanticPlan:
    """Everything that changes the numbers."""

    data: DataPlan
    model: ModelConfig
    weights: str | None
    """Starting weights: ``DEFAULT``, or the SHA-256 of the file that ``model.weights`` names; None for random ones."""
    norm: str
    """``batch`` or ``group``."""
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    precision: PrecisionPlan
    privacy: PrivacyPlan | None
    logical_batch: int
    """Examples per update over all processes and micro-batches; under DP the expected number."""
    steps: int
    steps_per_epoch: float
    label_smoothing: float
    clip_norm: float | None
    ema_decay: float | None
    """Decay per update of the averaged weights that are evaluated and published; None for the weights themselves."""
    eval_every: int
    patience: int | None
    min_delta: float
    monitor: str
    test_checkpoint: str
    seed: int
    task: TaskPlan = TaskPlan()
    features_dtype: str = "float32"
    """Type in which the output of layers that never change is kept; ``float32`` for all of its bits."""


@dataclass(frozen=True, kw_only=True)
class PerformancePlan:
    """Everything that may change without changing the numbers beyond rounding."""

    device: str
    device_name: str
    processes: int
    batch_size: int
    """Examples per process and micro-batch."""
    accumulation_steps: int
    eval_batch_size: int
    threads: int
    channels_last: bool
    fused_optimizer: bool | None
    grad_sample: str | None
    """How per-example gradients are computed; None without DP.  ``auto`` until model and device are there to ask."""
    grad_sample_reason: str | None
    """Why; None without DP."""
    secure_noise: bool | None
    deterministic: bool
    log_every: int
    save_every: int | None
    profile: bool | None = None
    """Whether to write a profile; None times the phases of a few steps alone, False none."""
    gradient_checkpointing: bool = False
    """Whether blocks of the model are computed again in the backward pass."""
    compile: bool = False
    """Whether torch's compiler makes code of whole micro-batches."""
    cuda_graphs: bool = False
    """Whether whole micro-batches are recorded and launched at once."""
    channels_last_reason: str | None = None
    """What ``channels_last`` was chosen by; None where it is as typed, or was not measured."""
    batch_reason: str | None = None
    """Why ``batch_size``; None where it is as typed."""
    batch_source: ChosenBy | None = None
    """What chose ``batch_size``: ``request``, ``measurement``, or ``rule`` until it is measured."""
    lr_reason: str | None = None
    """How the learning rate was scaled; None where it is as typed."""
    features: bool = False
    """Whether the output of layers that never change is computed once for each image."""
    features_kept: str | None = None
    """Which layers these are, and where the features of the training images are kept; None before that is known."""
    probe_seconds: float = 20.0
    """About the longest that each measurement may take."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run, decided."""

    name: str
    trainer: str
    classes: tuple[str, ...]
    """Name of each class, for people: a label is an index into it."""
    semantic: SemanticPlan
    performance: PerformancePlan
    notes: tuple[str, ...]
    """What the user should know: fallbacks, defaults that were filled in."""
    splits: tuple[SplitPlan, ...] = ()
    """Which splits there are; none in plans of earlier versions."""

    def evolve(self, changes: Mapping[str, Any]) -> Plan:
        """This plan with other values at dotted names, such as ``{"semantic.precision.dtype": "float64"}``.

        Raises:
            AttributeError: there is no such part.
            TypeError: the part has no such field, or is None.
        """
        return evolve(self, changes)

    def with_grad_sample(self, way: Choice[str]) -> Plan:
        """This plan with the way to per-example gradients chosen."""
        return self.evolve({"performance.grad_sample": way.value, "performance.grad_sample_reason": way.reason})

    def uncompiled(self) -> Plan:
        """This plan without compiler and recordings, which take longer to make than a short measurement lasts."""
        return self.evolve({"performance.compile": False, "performance.cuda_graphs": False})

    @property
    def layout(self) -> str | None:
        """The memory format and what it was chosen by; None where that was not measured."""
        reason = self.performance.channels_last_reason
        return reason and f"{'channels_last' if self.performance.channels_last else 'contiguous'}: {reason}"

    @property
    def identity(self) -> str:
        """SHA-256 of the semantic part."""
        return identity_of(dataclasses.asdict(self.semantic))

    def identity_fields(self) -> dict[str, Any]:
        """The semantic part as JSON has it: what a checkpoint keeps, to say later what differs."""
        return identity_fields(dataclasses.asdict(self.semantic))

    def as_dict(self) -> dict[str, Any]:
        """The plan for ``run.json``, with its identity."""
        return {"identity": self.identity, **dataclasses.asdict(self)}

    def describe_data(self) -> list[str]:
        """Images, classes and splits in two lines for people."""
        data = self.semantic.data
        shown = ", ".join(self.classes[:_SHOWN]) + (", ..." if len(self.classes) > _SHOWN else "")
        splits = [
            f"{split.examples:,} {split.name}" + f" ({split.source})" * bool(split.source) for split in self.splits
        ]
        lines = [
            f"data       {data.name}: {data.examples:,} training images of {data.image_size} x {data.image_size} x"
            f" {data.channels}, {data.num_classes} classes: {shown}",
            f"splits     {', '.join(splits)}",
        ]
        # a file name may hold what no terminal and no log takes
        return ["".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line) for line in lines]

    def describe(self) -> list[str]:
        """The plan in a few lines for people."""
        semantic, performance = self.semantic, self.performance
        precision = semantic.precision
        lines = [
            *self.describe_data(),
            f"recipe     {semantic.model.name}, {semantic.optimizer.name} lr {semantic.optimizer.lr:g},"
            f" {semantic.scheduler.name}, {pluralize(semantic.steps, 'step')}, seed {semantic.seed}",
            f"batch      {semantic.logical_batch} = {performance.batch_size} x {performance.accumulation_steps}"
            f" accumulated x {pluralize(performance.processes, 'process')}",
            *([] if performance.batch_reason is None else [f"           {performance.batch_reason}"]),
            *([] if performance.lr_reason is None else [f"lr         {performance.lr_reason}"]),
            f"precision  {precision.dtype} on {performance.device_name}, {pluralize(performance.threads, 'thread')}",
        ]
        if precision.requested.startswith("auto"):
            lines.append(f"           {precision.reason}")
        elif (layout := self.layout) is not None:
            lines.append(f"format     {layout}")
        if performance.features_kept is not None:
            lines.append(f"features   {performance.features_kept}")
        if made := [name for name in ("compile", "cuda_graphs") if getattr(performance, name)]:
            lines.append(f"prepared   {' and '.join(f'hardware.{name}' for name in made)}, before the first step")
        if (privacy := semantic.privacy) is not None:
            spent = f"ε={epsilon_text(privacy.epsilon)} at δ={delta_text(privacy.delta)} ({privacy.accountant})"
            if privacy.unsafe_noise_seed is not None:
                spent = "NOT private, because privacy.unsafe_noise_seed is set"
            lines.append(
                f"privacy    {spent}: noise multiplier"
                f" {privacy.noise_multiplier:.3f}, C={privacy.max_grad_norm:g}, q={privacy.sample_rate:.4f}"
            )
            if privacy.unsafe_noise_seed is None:
                lines.append(f"           {privacy.adjacency}, {privacy.sampling} sampling")
            if privacy.validation == "private":
                lines.append("           ε does not cover figures on the validation data, nor a choice by them")
            lines.append(f"gradients  per example by {performance.grad_sample}: {performance.grad_sample_reason}")
        return lines

    def ends_as(self, done: int) -> Literal["completed", "budget_exhausted"]:
        """Status of a run that ended by itself after ``done`` updates; early stopping completes it."""
        privacy = self.semantic.privacy
        used_up = privacy is not None and privacy.solved == "steps" and done == self.semantic.steps
        return "budget_exhausted" if used_up else "completed"

    def epoch_of(self, step: int) -> int:
        """Number, from 1, of the epoch that update ``step`` (from 0) belongs to.

        Epoch k ends with update round(k * steps_per_epoch): under Poisson sampling an epoch is no whole number of
        steps.
        """
        epoch = max(1, math.floor((step + 1) / self.semantic.steps_per_epoch))
        return epoch if self._last_step_of(epoch) >= step else epoch + 1

    def epoch_ends(self, step: int) -> bool:
        """Whether an epoch, or the run, is over after update ``step`` (from 0)."""
        return step + 1 == self.semantic.steps or step == self._last_step_of(self.epoch_of(step))

    def epoch_after(self, step: int) -> float:
        """Passes over the training data after update ``step`` (from 0)."""
        return (step + 1) / self.semantic.steps_per_epoch

    def _last_step_of(self, epoch: int) -> int:
        return math.floor(epoch * self.semantic.steps_per_epoch + 0.5) - 1

"""The parts of a run, built from its plan: everything that the step needs and nothing that it does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from runner.data.feature_feed import AnyFeed
from runner.data.feed import Feed
from runner.data.mixing import Mixer
from runner.errors import RequestError
from runner.models.gradient_checkpointing import recompute_blocks
from runner.models.memory_format import format_for
from runner.optim.modes import has_modes
from runner.optim.optimizer import build_optimizer
from runner.optim.schedules import Schedule, build_schedule
from runner.tasks.task import Task, build_task
from runner.training.compiled_model import CompiledModel
from runner.training.distributed.agreement import on_all_processes
from runner.training.ema import WeightAverage
from runner.training.feature_cache import FeatureCache, build_feature_cache
from runner.training.gradients.batch_sampler import BalancedSampler, BatchSampler, ShuffledSampler
from runner.training.gradients.graphed_mean_rule import GraphedMeanRule
from runner.training.gradients.mean_rule import GradientRule, MeanRule
from runner.training.gradients.micro_batch_size import MicroBatchSizes
from runner.training.gradients.step_rng import SeededRng, StepRng
from runner.training.model import build_model
from runner.training.precision.precision import Precision, build_precision
from runner.training.profiling.phase_timer import EVERY, PhaseTimer

if TYPE_CHECKING:
    from runner.config.schema import AugmentConfig
    from runner.data.images import ImageData, ImageSet
    from runner.planning.plan import Plan
    from runner.privacy.mechanism.key import SecretKey
    from runner.training.distributed.world import World


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a step works with."""

    plan: Plan
    """The plan that was asked for, with what had to wait for model and device decided."""
    world: World
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    rates: tuple[float, ...]
    """Peak learning rate of each of the optimizer's groups, as its class set them."""
    schedule: Schedule
    precision: Precision
    task: Task
    """What is learned."""
    channels_last: bool
    """Memory format of images, which are those of every feed for ``model``."""
    rule: GradientRule
    sizes: MicroBatchSizes
    """Of what goes through the model at once."""
    sampler: BatchSampler
    feed: AnyFeed
    """Training images."""
    draws: StepRng
    """Of augmentation and random layers."""
    mixer: Mixer | None
    """Makes one image of two examples; None where nothing is mixed."""
    key: SecretKey | None
    """Secret of noise and sampling under DP; the same in all processes."""
    clock: PhaseTimer
    features: FeatureCache | None
    """Keeps what layers that never change make of images, which feeds then give instead; None where none is kept."""
    compiled: CompiledModel | None
    """What trains the model by compiled code; None without ``hardware.compile``."""
    average: WeightAverage | None
    """The averaged weights that are evaluated and published; None for the model's own."""

    def plain_feed(self, data: ImageData, images: ImageSet) -> AnyFeed:
        """``images``, a split of ``data``, as ``model`` takes them and without augmentation."""
        if self.features is not None and (kept := self.features.feed(images, None)) is not None:
            return kept
        return self._pixel_feed(data, images, None)

    def on_images(self, data: ImageData) -> Parts:
        """These parts with the training images of ``data`` in the place of what is kept of them, to be looked at."""
        if self.features is None:
            return self
        return replace(self, feed=self._pixel_feed(data, data.train, self.plan.semantic.data.augment))

    def _pixel_feed(self, data: ImageData, images: ImageSet, augment: AugmentConfig | None) -> Feed:
        return Feed(
            images,
            data,
            device=self.world.device,
            dtype=self.precision.parameter_dtype,
            channels_last=self.channels_last,
            augment=augment,
        )

    def set_rates(self, step: int) -> float:
        """Give each group of the optimizer its learning rate for update ``step``; their share of the peak."""
        factor = self.schedule.factor(step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        return factor

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The parameters that are trained."""
        return _trained(self.model)


def build_parts(
    plan: Plan,
    data: ImageData,
    world: World,
    *,
    key: SecretKey | None = None,
    grad_sample: str | None = None,
    rehearsed: bool = False,
) -> Parts:
    """Build the parts of ``plan``; equal in every process.

    ``key`` and ``grad_sample`` are those of a resumed private run.  Without a key, a new one is drawn from the
    operating system.  ``rehearsed`` parts are for timing: features of a few images may stand for those of others.

    Raises:
        RequestError: the model, the optimizer or the schedule cannot be had as asked.
    """
    semantic, performance = plan.semantic, plan.performance
    precision = build_precision(semantic.precision, world.device, private=semantic.privacy is not None)
    # Weights depend on the seed alone, so every process starts from the same ones.
    torch.manual_seed(semantic.seed)
    notes: list[str] = []
    model = on_all_processes(world, lambda: build_model(plan, tell=notes.append))
    plan = plan.evolve({"notes": (*plan.notes, *notes)})
    memory_format = format_for(model, channels_last=performance.channels_last)
    model = model.to(device=world.device, dtype=precision.parameter_dtype).to(memory_format=memory_format)
    model.train()
    if performance.gradient_checkpointing:
        recompute_blocks(model, name=semantic.model.name, forward=precision.forward)
    channels_last = memory_format == torch.channels_last
    dtype = precision.parameter_dtype
    features = build_feature_cache(
        plan, model, data, world, dtype=dtype, channels_last=channels_last, rehearsed=rehearsed
    )
    feed: AnyFeed | None = None if features is None else features.feed(data.train, semantic.data.augment)
    if features is not None and (note := features.note()) is not None:
        plan = plan.evolve({"performance.features_kept": note})
    if feed is None:
        feed = Feed(
            data.train,
            data,
            device=world.device,
            dtype=dtype,
            channels_last=channels_last,
            augment=semantic.data.augment,
        )
    clock = PhaseTimer(
        world.device, every=None if performance.profile is False else 1 if performance.profile else EVERY
    )
    sizes = MicroBatchSizes(performance)
    task = build_task(semantic, world.device)
    compiled: CompiledModel | None = None
    rule: GradientRule
    sampler: BatchSampler
    draws: StepRng
    if semantic.privacy is None:
        if performance.compile:
            # imports the compiler

            compiled = CompiledModel(model, sizes)
        same: dict[str, Any] = {
            "task": task,
            "precision": precision,
            "world": world,
            "clip_norm": semantic.clip_norm,
            "enter": clock.enter,
            "compiled": compiled,
        }
        if performance.cuda_graphs:
            rule = GraphedMeanRule(model, sizes=sizes, **same)
        else:
            rule = MeanRule(model, **same)
        if semantic.data.sampler == "balanced":
            sampler = BalancedSampler(data.train.labels, semantic.logical_batch, semantic.seed)
        else:
            sampler = ShuffledSampler(len(data.train), semantic.logical_batch, semantic.seed)
        draws = SeededRng(semantic.data.augment, model, seed=semantic.seed)
    else:
        from runner.training.gradients.private_parts import build_private_parts

        plan, key, rule, sampler, draws = build_private_parts(
            plan,
            model,
            task=task,
            precision=precision,
            world=world,
            key=key,
            grad_sample=grad_sample,
            clock=clock,
            timed_shape=semantic.data.image_shape if features is None else features.shape,
        )
    optimizer, schedule = on_all_processes(
        world,
        lambda: (
            build_optimizer(semantic.optimizer, model, fused=performance.fused_optimizer),
            build_schedule(semantic.scheduler, steps=semantic.steps, steps_per_epoch=semantic.steps_per_epoch),
        ),
    )
    if semantic.ema_decay is not None and has_modes(optimizer):
        expected = f"null with optimizer={semantic.optimizer.name}, which averages the weights by itself"
        raise RequestError("trainer.ema_decay", semantic.ema_decay, expected)
    return Parts(
        plan=plan,
        world=world,
        model=model,
        optimizer=optimizer,
        rates=tuple(group.get("lr", semantic.optimizer.lr) for group in optimizer.param_groups),
        schedule=schedule,
        precision=precision,
        task=task,
        channels_last=channels_last,
        rule=rule,
        sizes=sizes,
        sampler=sampler,
        feed=feed,
        draws=draws,
        mixer=_build_mixer(plan),
        key=key,
        clock=clock,
        features=features,
        compiled=compiled,
        average=None if semantic.ema_decay is None else WeightAverage(_trained(model), semantic.ema_decay),
    )


def _build_mixer(plan: Plan) -> Mixer | None:
    data = plan.semantic.data
    if not data.augment.mixes:
        return None
    return Mixer(data.augment, seed=plan.semantic.seed, image_size=data.image_size, classes=len(plan.classes))


def _trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]

"""The parts that differ under DP: the secret key, Poisson batches and the private gradient."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from runner.config.choice import Choice
from runner.data import augment
from runner.models.memory_format import convolves
from runner.privacy.example_gradients.autoselect import autoselect_grad_sample, working_grad_samples
from runner.privacy.example_gradients.grad_sample import per_example_gradients
from runner.privacy.example_gradients.per_example import Forward, Loss, trainable
from runner.privacy.independence.mixing_check import check_examples_independent
from runner.privacy.independence.runtime_check import RuntimeMixingCheck, SixteenBits
from runner.privacy.mechanism.example_rng import ExampleRng
from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.noise import NoiseSource, layout_of
from runner.privacy.mechanism.poisson_sampler import PoissonSampler
from runner.privacy.mechanism.private_rule import PrivateRule
from runner.privacy.mechanism.random_layers import draw_by_example
from runner.training.distributed.agreement import decide_on_main, on_all_processes

if TYPE_CHECKING:
    from runner.planning.plan import Plan
    from runner.tasks.task import Task
    from runner.training.distributed.world import World
    from runner.training.precision.precision import Precision
    from runner.training.profiling.phase_timer import PhaseTimer


def build_private_parts(
    plan: Plan,
    model: torch.nn.Module,
    *,
    task: Task,
    precision: Precision,
    world: World,
    key: SecretKey | None,
    grad_sample: str | None,
    clock: PhaseTimer,
    timed_shape: tuple[int, ...],
) -> tuple[Plan, SecretKey, PrivateRule, PoissonSampler, ExampleRng]:
    """The plan without ``auto``, the key that all processes share, and what is private in the place of the usual.

    The rule, the stream of Poisson batches and the draws; layers of ``model`` that draw do so by example from now on.

    ``timed_shape`` is that of what the model is given of one image: its pixels, or features that are kept.

    ``key`` and ``grad_sample`` are those of a resumed run: another way of computing the gradients rounds differently.

    Raises:
        RequestError: the model mixes the examples of a batch, or its per-example gradients cannot be had.
    """
    semantic, privacy = plan.semantic, plan.semantic.privacy
    assert privacy is not None
    image_shape = semantic.data.image_shape
    loss = task.losses_in_parts
    draw_by_example(model)
    requested = plan.performance.grad_sample
    assert requested is not None
    tried: dict[str, Any] = {
        "image_shape": image_shape,
        "forward": precision.forward,
        "batch_size": plan.performance.batch_size,
        "copies": privacy.augmentation_multiplicity,
    }
    if requested != "auto" or grad_sample is not None:
        way = requested if grad_sample is None or requested != "auto" else grad_sample
        on_all_processes(world, lambda: check_examples_independent(model, grad_sample=way, **tried))
        if requested == "auto":
            plan = plan.with_grad_sample(Choice(way, "earlier", "as before the interruption"))
    else:
        ways = on_all_processes(world, lambda: working_grad_samples(model, **tried))
        chosen = decide_on_main(
            world,
            lambda: autoselect_grad_sample(
                model,
                ways,
                image_shape=timed_shape,
                batch_size=plan.performance.batch_size,
                loss=loss,
                forward=precision.forward,
                channels_last=plan.performance.channels_last and convolves(model) and timed_shape == image_shape,
                measure=not plan.performance.deterministic,
                copies=privacy.augmentation_multiplicity,
                most_seconds=plan.performance.probe_seconds,
            ),
        )
        plan, way = plan.with_grad_sample(chosen), chosen.value
    key = decide_on_main(world, functools.partial(_own_key, key, privacy.unsafe_noise_seed))
    rule = PrivateRule(
        model,
        loss=loss,
        forward=clock.naming_the_end_of(precision.forward),
        world=world,
        noise=NoiseSource(key, secure=bool(plan.performance.secure_noise), layout=layout_of(trainable(model))),
        max_grad_norm=privacy.max_grad_norm,
        noise_multiplier=privacy.noise_multiplier,
        expected_batch=semantic.logical_batch,
        # A constant scale cannot leak; only float16 needs one.
        static_scale=semantic.precision.static_scale if semantic.precision.dtype == "float16" else 1.0,
        grad_sample=way,
        copies=privacy.augmentation_multiplicity,
        enter=clock.enter,
        watch=RuntimeMixingCheck(
            model,
            key,
            sixteen_bits=_sixteen_bits(model, loss, precision.forward, way, privacy.augmentation_multiplicity),
        ),
    )
    sampler = PoissonSampler(semantic.data.examples, privacy.sample_rate, key)
    draws = ExampleRng(
        key, model, copies=privacy.augmentation_multiplicity, blocks=augment.blocks(semantic.data.augment)
    )
    return plan, key, rule, sampler, draws


def _sixteen_bits(model: torch.nn.Module, loss: Loss, forward: Forward, way: str, copies: int) -> SixteenBits | None:
    if isinstance(forward(), nullcontext):
        return None
    in_float32 = per_example_gradients(way, model, loss=loss, forward=nullcontext, copies=copies)
    return SixteenBits(forward, loss, in_float32, batched=way != "functional")


def _own_key(resumed: SecretKey | None, unsafe_seed: int | None) -> SecretKey:
    if resumed is not None:
        return resumed
    return SecretKey.from_system() if unsafe_seed is None else SecretKey.from_unsafe_seed(unsafe_seed)

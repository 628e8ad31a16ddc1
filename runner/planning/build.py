"""Building a ``Plan`` from a checked configuration and facts about data and device."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from typing import TYPE_CHECKING

from runner.config.choice import Choice
from runner.config.rules.batches import Split, split_batch
from runner.config.rules.compilation_rules import refuse_device
from runner.config.rules.feature_rules import keeps_features
from runner.config.weights_of_run import weights_file
from runner.environment.accelerate_settings import accelerate_notes
from runner.environment.launchers import local_processes
from runner.errors import RequestError
from runner.planning.device import Device, available_cores
from runner.planning.plan import (
    DataPlan,
    PerformancePlan,
    Plan,
    PrecisionPlan,
    PrivacyPlan,
    SemanticPlan,
    SplitPlan,
)
from runner.planning.privacy_plan import plan_privacy
from runner.planning.private_weights import refuse_weights_of_the_same_images
from runner.planning.run_length import updates_asked, updates_per_epoch
from runner.planning.task_plan import plan_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.config.schema import OptimizerConfig, PrecisionConfig, RunConfig
    from runner.data.images import ImageData


def build_plan(
    config: RunConfig,
    data: ImageData,
    device: Device,
    *,
    processes: int,
    mechanism: Callable[..., tuple[PrivacyPlan, int]] = plan_privacy,
) -> Plan:
    """Decide everything that the loop needs.

    ``mechanism`` is ``plan_privacy``, wherever it is called.

    Raises:
        RequestError: the configuration does not fit the data or the device.
    """
    refuse_device(config, device.kind)
    notes = accelerate_notes(os.environ, config)
    private = config.privacy.enabled
    examples = len(data.train)
    split = split_batch(config, processes)
    logical_batch = split.logical
    optimizer = _scale_lr(config.optimizer, logical_batch)
    if logical_batch > examples:
        notes.append(
            f"the effective batch of {logical_batch} is larger than the {examples} training images: an epoch is one"
            " update"
        )
    steps_per_epoch = updates_per_epoch(config, examples, logical_batch)
    precision = choose_precision(config.precision, device, gpu=config.hardware.gpu)
    if precision.dtype != precision.requested and not precision.requested.startswith("auto"):
        notes.append(f"precision.amp_dtype={precision.requested} falls back to {precision.dtype}: {precision.reason}")
    if precision.requested != "auto" and (foreign := _not_native(precision.dtype, device)) is not None:
        notes.append(foreign)
    privacy, steps = None, updates_asked(config, steps_per_epoch)
    if private:
        refuse_weights_of_the_same_images(config.model.weights, data)
        privacy, steps = mechanism(config, examples=examples, validated=data.val is not None, processes=processes)
    assert steps is not None, "without privacy the rules ask for a length"
    if config.trainer.name == "mixed_precision" and precision.dtype in ("float32", "float64"):
        notes.append(f"trainer=mixed_precision runs in {precision.dtype}: the baseline cell of a precision grid")
    if privacy is not None and privacy.unsafe_noise_seed is not None:
        notes.append("privacy.unsafe_noise_seed is set: anyone can compute the noise, so this run is NOT private")
    if split.batch_size != config.data.batch_size and isinstance(config.data.batch_size, int):
        notes.append(_split_note(config, split))
    if data.skipped:
        notes.append(f"unreadable files skipped: {len(data.skipped)}, the first is {data.skipped[0]}")
    notes += data.notes
    _check_validation(config, data)
    measures_batch = config.data.batch_size == "auto"
    norm = {"auto": "group" if private else "batch"}.get(config.model.norm, config.model.norm)
    semantic = SemanticPlan(
        data=DataPlan(
            name=data.name,
            fingerprint=data.fingerprint,
            origin=data.origin,
            examples=examples,
            num_classes=len(data.classes),
            channels=data.channels,
            image_size=data.image_size,
            mean=data.mean,
            std=data.std,
            augment=config.data.augment,
            contents=None if data.contents is None else data.contents.name,
            interpolation=data.interpolation,
            size_of_model=data.size_of_model,
            sampler=config.data.sampler,
        ),
        model=config.model,
        weights=_identify_weights(config.model.weights),
        norm=norm,
        optimizer=optimizer.value,
        scheduler=config.scheduler,
        precision=precision,
        privacy=privacy,
        logical_batch=logical_batch,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        label_smoothing=config.trainer.label_smoothing,
        clip_norm=config.trainer.clip_norm,
        ema_decay=config.trainer.ema_decay,
        eval_every=config.trainer.eval_every,
        patience=config.trainer.patience,
        min_delta=config.trainer.min_delta,
        monitor=config.trainer.monitor,
        test_checkpoint=config.trainer.test_checkpoint if data.val else "last",
        seed=config.seed,
        task=plan_task(config.task, data),
        features_dtype=config.features.dtype,
    )
    performance = PerformancePlan(
        device=device.kind,
        device_name=device.name,
        processes=processes,
        batch_size=split.batch_size,
        accumulation_steps=split.accumulation,
        batch_reason="to begin with: the run measures what fits" if measures_batch else None,
        batch_source="rule" if measures_batch else "request",
        lr_reason=optimizer.reason,
        probe_seconds=config.hardware.probe_seconds,
        gradient_checkpointing=config.model.gradient_checkpointing,
        compile=config.hardware.compile,
        cuda_graphs=config.hardware.cuda_graphs,
        eval_batch_size=config.data.eval_batch_size,
        threads=config.hardware.threads or max(1, available_cores() // local_processes(processes)),
        # In float32 the faster one or equal for all convolutional models measured on a CPU; not so in bfloat16 with
        # depthwise convolutions, where it costs 13 to 19 %.  So a run that is long enough measures it (settle).
        channels_last=True if config.hardware.channels_last is None else config.hardware.channels_last,
        fused_optimizer=config.hardware.fused_optimizer,
        grad_sample=config.privacy.grad_sample if private else None,
        grad_sample_reason="as asked" if private else None,
        secure_noise=_secure_noise(config, device) if private else None,
        deterministic=config.deterministic,
        log_every=config.trainer.log_every,
        save_every=config.trainer.save_every,
        profile=config.profile,
        features=keeps_features(config, images_seen=steps * logical_batch, examples=examples),
    )
    return Plan(
        name=config.name or derive_name(config, precision.dtype),
        trainer=config.trainer.name,
        classes=data.classes,
        semantic=semantic,
        performance=performance,
        notes=tuple(notes),
        splits=tuple(
            SplitPlan(name=name, examples=len(images), source=data.origins.get(name, ""))
            for name, images in (("train", data.train), ("val", data.val), ("test", data.test))
            if images is not None
        ),
    )


def choose_precision(config: PrecisionConfig, device: Device, *, gpu: str | None = None) -> PrecisionPlan:
    """The type that will be used on ``device``: what was asked for where it runs natively, else the next best.

    A CPU computes every type correctly, so nothing falls back there.  ``auto`` is answered by the facts about the
    device alone, for who must not or need not measure (``runner.autotune.resolve`` does): float32 on a CPU, because
    16 bits cost time where its products of bfloat16 are no native ones, and where they are the gain depends on the
    model.  ``gpu`` is the option of
    ``hardware`` that names one, and with it the type that suits it.
    """
    requested = config.amp_dtype
    half_gpu = device.kind in ("cuda", "mps")
    best_16 = "bfloat16" if device.native.bf16 or device.kind == "cpu" else "float16"
    if requested == "auto":
        native = half_gpu and (device.native.bf16 or device.native.fp16)
        dtype = best_16 if native else "float32"
        fact = f"{device.name} has native {best_16}" if native else f"{device.name} is not known to gain by 16 bits"
        reason = f"without measuring: {fact}"
    elif requested == "auto16":
        dtype, reason = best_16, f"the 16-bit type that suits {device.name}"
    elif requested == "bfloat16" and half_gpu and not device.native.bf16:
        dtype, reason = best_16, f"{device.name} has no native bfloat16"
    elif requested == "float64" and device.kind == "mps":
        raise RequestError("precision.amp_dtype", "float64 on an Apple GPU, which has none", "hardware=cpu or fp32")
    else:
        dtype = requested
        reason = f"what hardware={gpu} chooses" if gpu is not None and dtype == best_16 else "as asked"
    settings = dataclasses.asdict(config) | {"tf32": config.tf32 and device.native.tf32}
    del settings["amp_dtype"]
    return PrecisionPlan(requested=requested, dtype=dtype, reason=reason, **settings)


def _not_native(dtype: str, device: Device) -> str | None:
    """What to expect of a 16-bit type that the hardware does not compute in; None for one that it does."""
    native = {"bfloat16": device.native.bf16, "float16": device.native.fp16}
    if native.get(dtype, True):
        return None
    return f"{device.name} has no native {dtype}: the numbers are right, and mostly slower than in float32"


def _split_note(config: RunConfig, split: Split) -> str:
    note = (
        f"hardware.micro_batch={config.hardware.micro_batch} splits the effective batch of {split.logical} into"
        f" micro-batches of {split.batch_size}: the same update"
    )
    return f"{note}, but BatchNorm takes its statistics over fewer examples" if _may_have_batch_norm(config) else note


def _may_have_batch_norm(config: RunConfig) -> bool:
    return not config.privacy.enabled and config.model.norm != "group"


def _scale_lr(config: OptimizerConfig, logical_batch: int) -> Choice[OptimizerConfig]:
    """The optimizer with its learning rate scaled as asked, and how: the recipe is that of who types the result.

    With k = effective batch / reference, ``linear`` is k x lr (Goyal et al. 2017, "Accurate, Large Minibatch SGD",
    section 2.1), ``sqrt`` is sqrt(k) x lr, which keeps the variance of the update (Krizhevsky 2014, "One weird trick
    for parallelizing convolutional neural networks", section 5).
    """
    if config.scale_lr == "none":
        return Choice(config, "request", None)
    assert config.reference_batch_size is not None, "the rules ask for a reference"
    ratio = logical_batch / config.reference_batch_size
    lr = config.lr * (ratio if config.scale_lr == "linear" else math.sqrt(ratio))
    source = "Goyal et al. 2017" if config.scale_lr == "linear" else "Krizhevsky 2014"
    factor = f"{logical_batch} / {config.reference_batch_size}"
    factor = factor if config.scale_lr == "linear" else f"sqrt({factor})"
    reason = f"{config.lr:g} x {factor} = {lr:g} (optimizer.scale_lr={config.scale_lr}, {source})"
    scaled = dataclasses.replace(config, lr=lr, scale_lr="none", reference_batch_size=None)
    return Choice(scaled, "rule", reason)


def _identify_weights(weights: str | None) -> str | None:
    if weights is None or weights == "DEFAULT":
        return weights
    try:
        with weights_file(weights).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RequestError(
            "model.weights", weights, f"DEFAULT, or a file that can be read ({error.strerror})"
        ) from error


def _secure_noise(config: RunConfig, device: Device) -> bool:
    return device.kind == "cpu" if config.privacy.secure_noise is None else config.privacy.secure_noise


def _check_validation(config: RunConfig, data: ImageData) -> None:
    if data.val is not None:
        if config.privacy.enabled and config.privacy.validation == "public" and data.val_held_out:
            raise RequestError(
                "privacy.validation",
                f"public for images cut from the private training images (data.val_fraction="
                f"{config.data.val_fraction:g})",
                "private, or data that bring validation images of their own",
            )
        return
    if config.trainer.patience is not None:
        raise RequestError("trainer.patience", config.trainer.patience, "null, because there is no validation split")
    if config.scheduler.name == "plateau":
        raise RequestError("scheduler", "plateau", "a schedule that needs no validation split, such as cosine")


def derive_name(config: RunConfig, dtype: str) -> str:
    """Name of a run that was given none; ``dtype`` is what it computes in."""
    return f"{config.data.name}-{config.model.name}-{config.trainer.name}-{dtype}-s{config.seed}"

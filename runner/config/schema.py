"""The typed configuration: one dataclass per config group, one docstring per field.

This module is the reference for every key that a user may type.  It must import neither torch nor anything
that imports torch, because a wrong key has to be answered before torch is loaded.

``task``, ``trainer``, ``precision``, ``privacy``, ``hardware`` and ``tracker`` are closed: a key that is not listed
here does not exist.  ``data``, ``model``, ``optimizer`` and ``scheduler`` are open, so that a new part is one YAML
file: the keys listed here mean the same for every option of the group, and whatever else the option's YAML holds
becomes ``options``, the keyword arguments of its ``_target_``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from runner.config.augment_config import AugmentConfig as AugmentConfig
from runner.config.features_config import FeaturesConfig
from runner.config.task_config import TaskConfig

AmpDtype = Literal["float32", "float64", "bfloat16", "float16", "auto", "auto16"]
DeviceKind = Literal["auto", "cpu", "cuda", "mps"]
Keep = Literal["best", "best_and_last", "weights"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass
class DataConfig:
    """Which images, how they are split, and how many go through the model at once."""

    target: str = ""
    """Import path of the source (``_target_`` in YAML): a callable that returns the decoded splits."""
    name: str = ""
    """Name of the data set in records and reports."""
    root: str | None = None
    """Folder that holds the files; unused by sources that need none."""
    batch_size: int | str = 64
    """Examples per process and micro-batch.  Effective batch = batch_size x accumulation_steps x processes.  ``auto``
    measures how many fit into ``hardware.memory_limit`` and splits ``trainer.effective_batch_size`` accordingly."""
    eval_batch_size: int = 512
    """Examples per process and batch in evaluation; does not change any result beyond rounding."""
    image_size: int | None = None
    """Height and width in pixels that the model sees; null takes that of pretrained weights, else keeps the size of the
    source, and for images that have none in common takes the network's own."""
    channels: int | None = None
    """1 for grey, 3 for RGB, another number for files with so many bands, all of which are kept; null keeps what the
    source holds."""
    interpolation: Interpolation | None = None
    """How images are resized; null takes what the model's pretrained weights were trained with, and else bilinear."""
    value_range: list[float] | None = None
    """``[black,white]``: the values of files with other than unsigned 8-bit values, such as ``[0,4095]`` for 12 bits;
    values beyond are cut off.  Null takes the range that each file states, and refuses files that state none."""
    val_fraction: float = 0.1
    """Share of the training examples held out, per class, for validation when the source has no such split."""
    test_fraction: float = 0.2
    """Share of all examples held out, per class, for the test when the source has no such split."""
    split_seed: int = 0
    """Seed of the held-out splits, apart from ``seed`` so that repeats of a run share their data."""
    folds: int = 5
    """Number of stratified folds when ``fold`` is set."""
    fold: int | None = None
    """Which fold, from 0, is held out for the test; null uses ``test_fraction`` or the source's own test split."""
    limit: int | None = None
    """Keep at most this many training examples (stratified, by ``split_seed``), and as many for val and test."""
    on_bad_file: Literal["refuse", "skip"] = "refuse"
    """What an unreadable image does: ``refuse`` names it and stops, ``skip`` leaves it out and counts it."""
    follow_links: bool = False
    """Follow links below ``root`` to folders and out of it; otherwise such a link is a file that cannot be read."""
    max_pixels: int = 89478485
    """Pixels of one image file, at most; more are taken for a decompression bomb, which would fill the memory."""
    mean: list[float] | None = None
    """Per-channel mean, in [0, 1], subtracted before the model: a public constant, never computed from the data.  Null
    takes that of pretrained weights, else ImageNet's; theirs also comes before what an option of ``data`` sets."""
    std: list[float] | None = None
    """Per-channel standard deviation, in [0, 1], by which the difference is divided."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random changes to training images."""
    preview: bool = False
    """Draw the first training batch before and after ``data.augment``, into ``preview.png`` of the run's folder."""
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    """``shuffle``: each example once an epoch; ``balanced``: as many draws, each of a random class and then of a random
    example of it, so that a rare class is seen as often as any and its examples many times.  Not under DP."""
    cache: Literal["auto", "memory", "disk", "off"] = "auto"
    """Where decoded images are held: ``disk`` (files in ``cache_dir``, shared by processes and runs), ``memory`` (of
    each process, anew in each run), ``off`` (nowhere: decoded in the background for each batch), or ``auto``, the first
    of these with room.  The same batches, to the bit."""
    cache_dir: str | None = None
    """Folder of decoded images; null means ``$XDG_CACHE_HOME/recipe-runner`` or ``~/.cache/recipe-runner``."""
    cache_shared: bool = False
    """Let other users read what is in ``cache_dir``, as far as its permissions admit them; they name it and read it."""
    options: dict[str, Any] = field(default_factory=dict)
    """What else the YAML holds: keyword arguments of the source."""


@dataclass
class ModelConfig:
    """The network.  Classes, channels and image size come from the data."""

    target: str = ""
    """Import path of the factory (``_target_`` in YAML)."""
    name: str = ""
    """Name in records; for ``model=torchvision`` and ``model=timm`` the architecture to look up."""
    weights: str | None = None
    """Starting weights: null for random, ``DEFAULT`` for the library's pretrained ones, a safetensors file, or the
    folder of a run, which stands for its best weights."""
    gradient_checkpointing: bool = False
    """Compute the blocks of the model again in the backward pass instead of keeping what is inside them (Chen et al.
    2016): the same numbers for less memory and about a third more time.  Not under DP."""
    norm: Literal["auto", "batch", "group"] = "auto"
    """``batch`` keeps BatchNorm, ``group`` replaces it by GroupNorm, ``auto`` takes group under DP and else batch."""
    options: dict[str, Any] = field(default_factory=dict)
    """What else the YAML holds: keyword arguments of the factory."""


@dataclass
class TrainerConfig:
    """How long to train, how a logical batch is split, when to evaluate, save and stop."""

    target: str = ""
    """Import path of the trainer class (``_target_`` in YAML)."""
    name: str = ""
    """Name of the preset: standard, mixed_precision, accelerate or dp."""
    epochs: float | None = 30
    """Passes over the training data; a fraction is allowed.  Null, with ``steps`` null too: as long as
    ``privacy.epsilon`` lasts at ``privacy.noise_multiplier``."""
    steps: int | None = None
    """Number of updates; when set it replaces ``epochs``, unless those are typed."""
    accumulation_steps: int | None = None
    """Micro-batches per process and update; only a way to split the logical batch.  Null is 1, or what
    ``effective_batch_size`` makes it."""
    effective_batch_size: int | None = None
    """Examples per update over all processes and micro-batches: fixes the product that ``data.batch_size`` splits.
    Null for whatever the product is."""
    clip_norm: float | None = None
    """Largest global L2 norm of the averaged gradient; null for no clipping."""
    ema_decay: float | None = None
    """Evaluate and publish an exponential moving average of the weights, with this decay per update, less at the start:
    (1 + t) / (10 + t) after update t, where that is smaller, so that the initial weights are soon forgotten; null for
    the weights themselves.  Training goes on from the weights; under DP the average costs no privacy."""
    label_smoothing: float = 0.0
    """Share of the target mass spread evenly over all classes (Szegedy et al. 2016)."""
    eval_every: int = 1
    """Epochs between evaluations on the validation split."""
    save_every: int | None = None
    """Epochs between checkpoints, besides one at each improvement; null saves at ends of epochs as often as costs at
    most a fiftieth of the time.  The last state is always saved."""
    keep: Keep = "best_and_last"
    """Checkpoints of a finished run: ``best_and_last`` (the best, the last and the one before it), ``best`` alone, or
    its ``weights`` without what a run goes on from.  Until it is finished a run keeps what it needs to be resumed."""
    log_every: int = 50
    """Steps between training records; an epoch's end always makes one."""
    patience: int | None = None
    """Early stopping: evaluations without improvement of ``monitor`` before the run ends; null for never."""
    min_delta: float = 0.0
    """Smallest change of ``monitor`` that counts as an improvement."""
    monitor: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    """Metric that decides the best checkpoint and early stopping."""
    test_checkpoint: Literal["best", "last"] = "best"
    """Weights that the test split sees: ``best`` by ``monitor`` or ``last``."""


@dataclass
class PrecisionConfig:
    """The arithmetic of the forward and backward passes.  Weights and optimizer state stay in float32 (or float64)."""

    amp_dtype: AmpDtype = "float32"
    """Type of the arithmetic; ``auto`` measures which is fastest for this model on this device, ``auto16`` takes the
    16-bit type that suits it."""
    tf32: bool = False
    """Allow TensorFloat-32 in float32 matrix products and convolutions on CUDA (10-bit mantissa)."""
    init_scale: float = 65536.0
    """float16: first loss scale (torch.amp.GradScaler)."""
    growth_factor: float = 2.0
    """float16: factor by which the loss scale grows after ``growth_interval`` good steps."""
    backoff_factor: float = 0.5
    """float16: factor by which the loss scale shrinks after an overflow."""
    growth_interval: int = 2000
    """float16: good steps in a row before the scale grows."""
    max_skipped_in_a_row: int = 50
    """float16: overflowing steps in a row after which the run fails instead of skipping on."""
    static_scale: float = 1024.0
    """float16 under DP: the constant loss scale.  A scale that follows the data would leak through skipped steps."""


@dataclass
class PrivacyConfig:
    """Differentially private training (Abadi et al. 2016)."""

    enabled: bool = False
    """Set by the option of the group: ``privacy=none`` or ``privacy=dp``."""
    epsilon: float | None = None
    """Budget of the whole run.  The noise is solved for it; with ``noise_multiplier`` and ``trainer.epochs=null``, the
    length is.  With ``noise_multiplier`` also null it is 3."""
    noise_multiplier: float | None = None
    """Standard deviation of the noise in units of ``max_grad_norm``; with a given length, epsilon follows from it."""
    delta: float | None = None
    """Failure probability; null takes the largest power of ten <= 1/(10 n), at most 1e-5."""
    max_grad_norm: float = 1.0
    """L2 norm C to which each example's gradient is clipped."""
    augmentation_multiplicity: int = 1
    """Augmented copies of each example, whose mean gradient is clipped (De et al. 2022): this many times the cost at
    the same epsilon.  Needs ``data.augment``."""
    accountant: Literal["pld", "prv", "rdp"] = "pld"
    """What epsilon is computed by: ``pld`` is privacy loss distributions, the tightest, ``rdp`` Renyi's divergence,
    the loosest."""
    grad_sample: Literal["auto", "ghost", "functional", "hooks"] = "auto"
    """How per-example gradients are computed: ``ghost`` (norms and sums without them), ``functional`` (torch.func),
    ``hooks`` (Opacus), or ``auto``, which measures them for this model and machine."""
    secure_noise: bool | None = None
    """Draw noise from ChaCha20; null means yes on CPU and no on GPU, where it costs a copy per step."""
    validation: Literal["private", "public"] = "private"
    """What the validation split is: ``private`` (each evaluation on it is noted in the ledger, and nothing may be
    steered by it) or ``public``, which allows early stopping, a plateau schedule and the best checkpoint."""
    ledger_dir: str | None = None
    """Folder of the ledger of private runs; null means ``$XDG_DATA_HOME/recipe-runner/ledger`` or
    ``~/.local/share/recipe-runner/ledger``."""
    sweep_epsilon: float | None = None
    """Upper limit of what the private cells of a multirun may spend together, composed, on one data set.  A grid that
    would pass it is refused as a whole; of other sweeps the cell that would, before its first step.  With
    ``selection=random_stopping`` it limits what publishing the best costs.  Null for no limit."""
    selection: Literal["composition", "random_stopping"] = "composition"
    """How the best cell of a multirun is chosen.  ``composition``: from the cells as asked, which costs what publishing
    all of them does.  ``random_stopping``: from trials of which number and settings are drawn beforehand, which costs
    less when only the best is published (Papernot and Steinke 2022); each cell of a grid may then run several times or
    never, and a search needs a random sampler."""
    selection_trials: float | None = None
    """random_stopping: mean number of trials; null for the number of cells of a grid, or trials of a search."""
    selection_shape: float = 1.0
    """random_stopping: 1 draws the number from a geometric distribution, 0 from a logarithmic one, which costs less and
    more often stops at one trial; larger values stay closer to the mean and cost more."""
    unsafe_noise_seed: int | None = None
    """Fix the secret key of noise and sampling, for tests.  The run is then *not private* and says so."""


@dataclass
class HardwareConfig:
    """Where the run happens.  Nothing here changes a result beyond rounding."""

    device: DeviceKind = "auto"
    """What computes; ``auto`` takes a GPU where there is one, and else the CPU."""
    gpu: Literal["v100", "a100", "h100"] | None = None
    """Whose facts ``python -m runner plan`` takes where no CUDA device is here."""
    processes: int | None = 1
    """Processes that the runner starts on this machine; null means one per GPU."""
    threads: int | None = None
    """CPU threads per process; null shares the machine's cores evenly between the processes."""
    channels_last: bool | None = None
    """Memory format NHWC for convolutions; null takes it, unless a longer run or ``precision=auto`` measures that it is
    slower here."""
    fused_optimizer: bool | None = None
    """Fused optimizer kernels; null uses them where the optimizer and device have them."""
    compile: bool = False
    """Train by torch's compiler: the same numbers to rounding, for a wait before the first step.  Not under DP.  For
    ``precision=auto`` and ``data.batch_size=auto`` the model is measured without it."""
    cuda_graphs: bool = False
    """Launch the forward and backward passes of a micro-batch as one CUDA graph: for small models on a fast GPU.  Not
    under DP."""
    probe_seconds: float = 20.0
    """About the longest that each measurement before a run, or for its plan, may take: what would take longer is
    measured on fewer images, or not at all, which is said."""
    price_per_hour: float | None = None
    """What an hour of this machine costs, in any currency, for ``python -m runner plan``; it changes no run."""
    memory_limit: str | None = None
    """Memory that a process may take, in bytes or as ``4GiB`` (a GPU's own, or on a CPU the process's whole): what
    ``data.batch_size=auto`` keeps to.  Null for what is here."""
    micro_batch: int | None = None
    """Most examples that go through the model at once: a larger ``data.batch_size`` of the recipe is split further,
    with the same effective batch.  Null for no such limit; a ``data.batch_size`` on the command line lifts it."""


@dataclass
class TrackerConfig:
    """A second copy of the records for people; the run's own files are the truth."""

    target: str | None = None
    """Import path of the sink (``_target_`` in YAML); null for none."""
    name: str = "none"
    """Name of the option."""
    project: str | None = None
    """Project under which the runs are filed; null for W&B's own ``WANDB_PROJECT`` or settings, else recipe-runner."""
    entity: str | None = None
    """W&B team or user; null for W&B's own ``WANDB_ENTITY`` or settings, else the default of the account."""
    group: str | None = None
    """Group of runs; null for ``WANDB_RUN_GROUP``, else the sweep's folder in a multirun."""
    mode: Literal["offline", "online"] = "offline"
    """``offline`` writes files and never asks or blocks; ``online`` uploads."""
    tags: list[str] = field(default_factory=list)
    """Free labels; none for those of ``WANDB_TAGS``."""


@dataclass
class OptimizerConfig:
    """The update rule."""

    target: str = ""
    """Import path of a torch optimizer class (``_target_`` in YAML)."""
    name: str = ""
    """Name in records."""
    lr: float = 0.1
    """Peak learning rate, reached after warm-up; with ``scale_lr`` that of ``reference_batch_size``."""
    scale_lr: Literal["none", "linear", "sqrt"] = "none"
    """Multiply ``lr`` by effective batch / ``reference_batch_size``: ``linear`` (Goyal et al. 2017), by the root of
    that: ``sqrt`` (Krizhevsky 2014), or not: ``none``."""
    reference_batch_size: int | None = None
    """The effective batch for which ``lr`` is right; needed by ``scale_lr``."""
    weight_decay: float = 0.0
    """Coefficient of weight decay, as the optimizer defines it."""
    decay_norm_and_bias: bool = False
    """Apply weight decay to biases and normalisation weights (all one-dimensional parameters) too."""
    options: dict[str, Any] = field(default_factory=dict)
    """What else the YAML holds: keyword arguments of the optimizer."""


@dataclass
class SchedulerConfig:
    """The learning rate as a pure function of the step."""

    target: str = ""
    """Import path of the schedule class (``_target_`` in YAML)."""
    name: str = ""
    """Name in records."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises linearly to its peak."""
    warmup_start: float = 0.0
    """Share of the peak learning rate at which warm-up starts, in [0, 1]."""
    options: dict[str, Any] = field(default_factory=dict)
    """What else the YAML holds: keyword arguments of the schedule."""


@dataclass
class ComparisonConfig:
    """The question that a sweep is asked, for its report and ``python -m runner compare``.  It changes no run."""

    metric: Literal["test_accuracy", "val_accuracy", "test_loss", "val_loss", "train_loss"] | None = None
    """What is compared; null for the test accuracy, or the validation accuracy where there is no test split."""
    margin: float | None = None
    """Largest difference that counts as none: percentage points of an accuracy, nats of a loss.  Null is 0.2 points,
    or one image where that is more; a loss has no usual margin and needs one."""
    confidence: float = 0.95
    """Confidence of each interval; 1 - confidence is the level of the tests, over all comparisons together."""
    by: list[str] = field(default_factory=list)
    """Keys whose values make the recipes that are compared; empty for whatever varies besides seeds and folds."""
    reference: str | None = None
    """Value of ``by`` (with several keys, values joined by commas) that the others are compared with; null for the
    first."""
    decision: Literal["seconds", "memory", "epsilon", "money", "joules"] = "seconds"
    """What the recommended recipe costs least of, among those shown to lie within ``margin`` of every other: seconds of
    a run, peak memory, the epsilon that it spends, money by ``hardware.price_per_hour``, or joules where NVML or RAPL
    count them."""
    failure_rate: float = 0.5
    """Share of failed runs that matters: a recipe is recommended once its runs exclude this rate.  Without a failure 5
    runs exclude 0.5, 11 exclude 0.25, 59 exclude 0.05."""
    until: Literal["decided"] | None = None
    """``decided`` adds seeds in rounds until the recommendation stands, looking at the results after 5, 7, 10, ...
    seeds, and fewer of the recipes that are out of the question; null runs the seeds that were asked for."""
    max_seeds: int = 40
    """Most seeds of a recipe with ``until=decided``."""
    max_hours: float | None = None
    """Hours after which ``until=decided`` begins no further seed; null for no such limit."""


@dataclass
class RunConfig:
    """One run, and the top level of a composed configuration: the groups, and the keys that belong to none."""

    data: DataConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    trainer: TrainerConfig
    precision: PrecisionConfig
    privacy: PrivacyConfig
    hardware: HardwareConfig
    tracker: TrackerConfig
    features: FeaturesConfig
    comparison: ComparisonConfig
    task: TaskConfig = field(default_factory=TaskConfig)
    seed: int = 0
    """Seed of weights, order of examples and augmentation; 0 is a seed like any other."""
    seeds: int = 1
    """Repeats of a run, or of each cell of a grid, with ``seed``, ``seed + 1``, ...: every cell on the same seeds."""
    folds: int | None = None
    """Cross-validation: a run, or each cell of a grid, once for each of so many stratified folds of the training
    images, which is then its test (``data.fold``); with one answer in the end."""
    retry_failed: bool = False
    """Run the failed cells of a sweep again when it is started again in its folder; otherwise they are listed."""
    profile: bool | None = None
    """Write where the time of the steps goes, by operator and as a trace, into the run's folder (docs/profiling.md).
    Null times the phases of a few steps alone, false none."""
    deterministic: bool = False
    """Ask torch for deterministic kernels; slower on GPU, bitwise repeatable."""
    name: str | None = None
    """Name of the run in records and trackers; null derives one from the recipe."""
    resume: str | None = None
    """Folder of an earlier run: takes its command line from there and goes on; further keys may change how it runs,
    not what it computes.  Only on the command line, where it is replaced by what it stands for."""

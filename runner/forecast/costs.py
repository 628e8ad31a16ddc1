"""The costs of a run's parts, measured by a probe or estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from runner.forecast.privacy_costs import PrivacyCosts
    from runner.forecast.tracker_cost import Tracking

EXAMPLES = 2
"""Images that a network is looked at with: BatchNorm has no statistics of one."""

Method = Literal["probe", "estimate", "elsewhere"]
"""``elsewhere`` is an estimate for a GPU of another machine: the seconds are those of this machine's CPU."""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """The network in numbers."""

    parameters: int
    trainable: int
    flops: int
    """Floating-point operations of a forward and a backward pass of one example (``torch.utils.flop_counter``)."""
    kernels: int
    """Operations that both passes launch for one micro-batch, views left out."""
    saved_per_example: int
    """Bytes of activations kept from the forward for the backward pass, in float32."""
    batch_norm: bool
    """Whether a layer computes statistics over the micro-batch."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds and bytes of the pieces that a run is made of, for one process."""

    method: Method
    model: ModelSize
    set_up_seconds: float
    """Building the parts, which ``run.json`` does not count; 0 where it was not done."""
    start_seconds: float
    """Once: what the run does before its first update."""
    first_step_seconds: float
    """What the first update takes longer than the others: libraries prepare themselves."""
    step_seconds: tuple[float, ...]
    """Of each update that was timed; of an estimate, the one figure."""
    record_seconds: float
    """One line of ``metrics.jsonl``."""
    evaluation_seconds_per_example: float
    hold_seconds: float
    """Keeping the best weights in memory until the next checkpoint."""
    save_seconds: float
    """One checkpoint, on the disk."""
    load_seconds: float
    """Reading one checkpoint back, for the test with the best weights."""
    test_set_up_seconds: float
    """Preparing the test split, which happens after training."""
    peak_bytes: int
    """Largest memory that the process held, measured or worked out."""
    baseline_bytes: int
    """Memory of the process before it had a model: on a CPU its libraries, on a GPU nothing."""
    grad_sample: str | None
    """The way to per-example gradients that was chosen, and why; None without DP or where it was not asked."""
    features: str | None = None
    """The layers whose output is computed once for each image; None where none is."""
    feature_seconds: float = 0.0
    """For that, before the first update and not counted by ``run.json``; 0 where it was kept before."""
    feature_bytes: int = 0
    """What is kept, of all splits."""
    images_timed: int | None = None
    """Images of each update that was timed, where the whole would have taken too long; its seconds are scaled up."""
    same_batch: bool = True
    """Whether the micro-batches that were measured are the run's."""
    accounts: PrivacyCosts | None = None
    """What the books of a private run take; None without DP."""
    tracking: Tracking | None = None
    """What the tracker takes of the run; None without one that was tried."""

    @property
    def held_bytes(self) -> int:
        """Bytes that a process holds at least, whatever its batches: libraries, weights and their gradients."""
        return self.baseline_bytes + 4 * (self.model.parameters + self.model.trainable)

"""The audit of a user's configuration: its data, model, augmentation, precision and processes, for a few updates."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runner.audit.audit_result import Audit, direct_checks
from runner.audit.audited_run import AuditedRun, run_audited
from runner.audit.bound import epsilon_lower_bound, guess, largest_bound
from runner.audit.checks import LEVEL, Check, at_one_level
from runner.audit.likelihood import admitted, delta_for
from runner.audit.step_observations import Targets
from runner.autotune.resolve import resolve_plan
from runner.errors import RequestError
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.privacy.accounting.accountants import epsilon
from runner.privacy.mechanism.key import SecretKey
from runner.training.checkpointing.resume import grad_sample_of
from runner.training.distributed.agreement import decide_on_main, main_process_first
from runner.training.distributed.launch import share_work
from runner.training.distributed.world import SingleProcess, torch_device
from runner.training.run_data import open_run_data
from runner.training.torch_settings import torch_settings

if TYPE_CHECKING:
    from runner.config.schema import RunConfig
    from runner.planning.device import Device
    from runner.planning.plan import Plan, PrivacyPlan
    from runner.training.distributed.world import World

STEPS = 40
"""Updates of each run, or all of a shorter one."""
FEWEST_STEPS = 10
"""Fewer say nothing about the noise of different steps."""
FEWEST_EXAMPLES = 20
"""Of fewer, no two can be told apart by how often they were drawn."""
RUNS = 6
"""Runs, each with a key and coins of its own; fewer where a run is long."""
TARGETS = 24
"""Examples in each run of which a coin decides whether they are present; fewer of few examples or small batches."""
_EXAMPLES = 40_000
"""Gradients of examples that the steps of all runs may take, after those of the first run."""
SUMS = 1200
"""Gradients that are computed one at a time, in all runs together; a batch of each at least."""
_KEPT = 1 << 24
"""Numbers of noise that are kept over all runs."""
_OTHER = "the run's configuration leads to another plan today, which was audited: code, data or defaults have changed"
_FAR_OUT = LEVEL / 100
"""Probability, at most, with which a right trainer passes the log odds that its privacy admits."""


@dataclass(frozen=True, kw_only=True)
class ConfigAuditRequest:
    """What to audit; can be pickled."""

    config: RunConfig
    """Checked, of a private trainer."""
    run: Path | None
    """The folder of the run that the configuration is of."""
    identity: str | None
    """Of that run's plan."""
    guesses: int | None
    confidence: float
    runs: int = RUNS
    steps: int = STEPS
    targets: int = TARGETS
    sums: int = SUMS


def audit_config(request: ConfigAuditRequest, *, failures: Path) -> Audit:
    """Train the recipe for a few updates, several times over, and see what its releases give away.

    Nothing is published and nothing enters the ledger: the runs have keys of their own, which nobody keeps.  Several
    processes are started as for a run; tracebacks of theirs go to the file ``failures``.

    Raises:
        RequestError: the recipe is not private, cannot be audited, or cannot be run.
        RunError: a process failed.
    """
    config = request.config
    if config.trainer.name != "dp":
        raise RequestError("trainer", config.trainer.name, "dp: the audit is of the private trainer")
    if not 0.0 < request.confidence < 1.0:
        raise RequestError("--confidence", request.confidence, "a number above 0 and below 1")
    device = detect_device(config.hardware)
    processes = device.count if config.hardware.processes is None else config.hardware.processes
    if processes == 1:
        audit = audit_rank(request, SingleProcess(torch_device(device.kind)), device)
    else:
        audit = share_work(
            audit_rank, request, hardware=config.hardware, device=device, processes=processes, failures=failures
        )
    assert isinstance(audit, Audit)
    return audit


def audit_rank(request: ConfigAuditRequest, world: World, device: Device) -> Audit | None:
    """This process's part; the first one's result is the audit, the others have none."""
    config = request.config
    data = main_process_first(world, lambda: open_run_data(config))
    plan = build_plan(config, data, device, processes=world.size)
    plan = resolve_plan(plan, config, device, world, run_dir=request.run)
    privacy = plan.semantic.privacy
    assert privacy is not None
    other = request.identity not in (None, plan.identity)
    steps = min(request.steps, plan.semantic.steps)
    if steps < FEWEST_STEPS:
        raise RequestError("trainer.steps", steps, f"at least {FEWEST_STEPS} for an audit")
    runs = max(1, min(request.runs, _EXAMPLES // (steps * plan.semantic.logical_batch)))
    way = None if request.run is None else grad_sample_of(request.run, plan, None)
    count = _count(plan, request)
    guesses = _guesses(request.guesses, runs * count)
    random = np.random.default_rng(privacy.unsafe_noise_seed)
    audited: list[AuditedRun] = []
    coins: list[Targets] = []

    def draw(number: int, rows: tuple[int, ...] | None) -> tuple[SecretKey, Targets]:
        return new_key(privacy, number), _targets(plan, count, random, rows)

    with torch_settings(plan):
        for number in range(runs):
            rows = coins[0].rows if coins else None
            key, targets = decide_on_main(world, functools.partial(draw, number, rows))
            parts, run = run_audited(
                plan,
                data,
                world,
                steps=steps,
                key=key,
                grad_sample=way,
                targets=targets,
                sums=request.sums // runs,
                kept=_KEPT // (runs * steps),
                thorough=number == 0,
            )
            way, plan = parts.plan.performance.grad_sample, parts.plan if number == 0 else plan
            audited.append(run)
            coins.append(targets)
        if not world.is_main:
            return None
        audit = _judge(plan, audited, coins, steps=steps, guesses=guesses, confidence=request.confidence)
        return dataclasses.replace(audit, notes=(_OTHER,)) if other else audit


def new_key(privacy: PrivacyPlan, number: int) -> SecretKey:
    """The key of run ``number`` of an audit, which nobody keeps; of ``privacy.unsafe_noise_seed`` where that is set."""
    if privacy.unsafe_noise_seed is None:
        return SecretKey.from_system()
    return SecretKey.from_unsafe_seed(privacy.unsafe_noise_seed + (number << 32))


def _count(plan: Plan, request: ConfigAuditRequest) -> int:
    """How many examples of each run are watched."""
    examples = plan.semantic.data.examples
    if examples < FEWEST_EXAMPLES:
        raise RequestError("data.limit", examples, f"at least {FEWEST_EXAMPLES} training images for an audit")
    return max(2, min(request.targets, examples // 4, plan.semantic.logical_batch // 2)) // 2 * 2


def _targets(plan: Plan, count: int, random: np.random.Generator, rows: tuple[int, ...] | None) -> Targets:
    """As many present as absent on average; the first example is attacked in a way of its own, and always present."""
    examples = plan.semantic.data.examples
    if rows is None:
        rows = tuple(sorted(int(row) for row in random.choice(np.arange(1, examples), count, replace=False)))
    return Targets(rows=rows, present=tuple(bool(coin) for coin in random.integers(0, 2, len(rows))))


def _guesses(asked: int | None, audited: int) -> int:
    """How many of the ``audited`` examples the attacker calls: half of them, the clearest, unless told otherwise."""
    guesses = max(2, audited // 4 * 2) if asked is None else asked
    if guesses % 2 or not 2 <= guesses <= audited:
        raise RequestError("--guesses", guesses, f"an even number from 2 to the {audited} images that are watched")
    return guesses


def _judge(
    plan: Plan,
    audited: Sequence[AuditedRun],
    coins: Sequence[Targets],
    *,
    steps: int,
    guesses: int,
    confidence: float,
) -> Audit:
    privacy = plan.semantic.privacy
    assert privacy is not None
    scores = np.concatenate([run.scores for run in audited])
    present = np.array([coin for targets in coins for coin in targets.present])
    found = guess(scores, present, guesses=guesses)
    return Audit(
        plan=plan,
        attacked="recipe",
        runs=len(audited),
        steps=steps,
        guesses=found,
        confidence=confidence,
        lower_bound=epsilon_lower_bound(found, delta=privacy.delta, confidence=confidence),
        measurable=largest_bound(len(scores), guesses, delta=privacy.delta, confidence=confidence),
        claimed=_epsilon(privacy, privacy.accountant, steps, privacy.delta),
        delta=privacy.delta,
        checks=at_one_level(
            [
                *direct_checks(plan, audited, left_out=coins[0].rows),
                _log_odds(privacy, audited, coins, steps),
            ]
        ),
    )


def _log_odds(privacy: PrivacyPlan, audited: Sequence[AuditedRun], coins: Sequence[Targets], steps: int) -> Check:
    """How sure an attacker who knows everything else was of the truth about one example."""
    truths = [np.array([*targets.present, *[True] * (len(run.odds) - len(targets.present))])
              for run, targets in zip(audited, coins, strict=True)]  # fmt: skip
    odds = np.concatenate([np.where(truth, run.odds, -run.odds) for run, truth in zip(audited, truths, strict=True)])
    limit = admitted(_epsilon(privacy, "rdp", steps, delta_for(_FAR_OUT / len(odds))))
    return Check.exact(
        "log odds, all else known", f"<= {limit:.2f}", f"{odds.max():.2f}", holds=bool(odds.max() <= limit)
    )


def _epsilon(privacy: PrivacyPlan, accountant: str, steps: int, delta: float) -> float:
    return epsilon(
        accountant,
        sample_rate=privacy.sample_rate,
        noise_multiplier=privacy.noise_multiplier,
        steps=steps,
        delta=delta,
    )

"""The attack of 2026-11-30 again: ``python -m tests.audit.likelihood_attack [--runs N]`` from the root of the checkout.

Somebody knows the seed, the weights and all examples but the first, the batches and draws of the others, and every
released gradient, and adds up the log odds that the first example is present.  A row for each recipe and code: the
present one, and the one of before, whose draws followed from the public seed and the position in the batch.
"""

import argparse
import dataclasses
import time

import numpy as np
import torch

from tests.audit.campaign import configuration
from tests.audit.configs import with_dropout
from tests.audit.faults import draws_by_position, planted

COMMON = ("trainer=dp", "hardware.threads=1", "privacy.grad_sample=ghost", "tracker=none")
SHORT = ("data=digits", "data.limit=200", "data.val_fraction=0", "trainer.steps=10")
HALF = "data.batch_size=100"
CROPS = "data.augment.crop_padding=1"
RECIPES = {
    "augmented, linear": (*SHORT, "model=linear", CROPS, HALF),
    "augmented, linear, q = 1": (*SHORT, "model=linear", CROPS, "data.batch_size=200"),
    "dropout, mlp": (*SHORT, "model=mlp", "model.hidden=[32]", HALF),
    "trainer=dp, whole": (),
    "trainer=dp data.augment.crop_padding=1, whole": (CROPS,),
}
CODES = {"now": lambda patch: None, "before": draws_by_position}


def log_odds_of_a_run(plan, data, *, present):
    """Train a run with or without the first example; the log odds that it is present, and how far it moves a sum."""
    from runner.audit.audited_run import Without
    from runner.audit.likelihood import log_odds
    from runner.audit.observer import Observer, RecordingFeed
    from runner.audit.sensitivity import clipped_sum
    from runner.training.distributed.world import SingleProcess
    from runner.training.parts import build_parts
    from runner.training.step import TrainStep

    privacy = plan.semantic.privacy
    deviation = privacy.noise_multiplier * privacy.max_grad_norm
    parts = build_parts(plan, data, SingleProcess(torch.device("cpu")))
    sampler = Without(parts.sampler, [] if present else [0])
    odds, furthest, moved = 0.0, 0.0, None

    def observe(step, clipped, noise):
        nonlocal odds
        product, square = float(moved @ noise), float(moved @ moved)
        drawn = 0 in sampler.rows(step).tolist()
        odds += float(log_odds(product + square * drawn, square, rate=privacy.sample_rate))

    observer = Observer(parts, kept=0, feed=RecordingFeed(parts.feed), observe=observe)
    train = TrainStep(dataclasses.replace(parts, rule=observer, sampler=sampler))
    for step in range(plan.semantic.steps):
        rest = sampler.rows(step)
        rest = rest[rest != 0]
        whole = torch.cat([torch.zeros(1, dtype=torch.int64), rest])
        moved = (clipped_sum(parts, step, whole) - clipped_sum(parts, step, rest)) / deviation
        furthest = max(furthest, float(moved.norm()) * privacy.noise_multiplier)
        train.run(step)
    return odds, furthest


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200, help="in, and as many out")
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument(
        "--recipes", nargs="+", default=[one for one in RECIPES if "whole" not in one], choices=list(RECIPES)
    )
    parser.add_argument("--codes", nargs="+", default=list(CODES), choices=list(CODES))
    args = parser.parse_args()
    from runner.data.open import open_data
    from runner.planning.build import build_plan
    from runner.planning.device import detect_device
    from runner.training.torch_settings import torch_settings

    print("| recipe | code | moved, over C | log odds in: mean, least, most | out: mean, least, most | beyond ε |")
    print("|---|---|---|---|---|---|")
    for name in args.recipes:
        config = configuration(*COMMON, *RECIPES[name], f"privacy.epsilon={args.epsilon}", base=())
        data = open_data(config.data)
        plan = build_plan(config, data, detect_device(config.hardware), processes=1)
        for code in args.codes:
            start = time.perf_counter()
            found, furthest = {}, 0.0
            with planted(with_dropout if "dropout" in name else "none"), planted(CODES[code]), torch_settings(plan):
                for present in (True, False):
                    runs = [log_odds_of_a_run(plan, data, present=present) for _ in range(args.runs)]
                    found[present] = np.array([odds for odds, _ in runs])
                    furthest = max(furthest, *(moved for _, moved in runs))
            inside, outside = ([f"{each:+.1f}" for each in (odds.mean(), odds.min(), odds.max())] for odds in
                               (found[True], found[False]))  # fmt: skip
            beyond = (found[True] > args.epsilon).sum() + (found[False] < -args.epsilon).sum()
            print(
                f"| {name} | {code} | {furthest:.2f} | {', '.join(inside)} | {', '.join(outside)}"
                f" | {beyond} of {2 * args.runs} ({time.perf_counter() - start:.0f} s) |",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""The whole table of the audit: ``python -m tests.audit.campaign [--recipe] [--seeds N]`` from the root.

A row for each trainer (the right one and the wrong ones), claimed epsilon and repetition, as Markdown: attacked by
canaries, or with ``--recipe`` by the audit of a small recipe with augmentation and dropout.  Coins differ between
repetitions; noise, sampling and draws come from the system's generator.
"""

import argparse
import sys
import time
from pathlib import Path

from tests.audit.faults import FAULTS, MORE, planted
from tests.conftest import ROOT

FEW = {"runs": 3, "steps": 20, "targets": 8, "sums": 120}
"""Of the audit of a recipe: less than by default, so that the table takes minutes."""


def configuration(*overrides, base=("experiment=audit",)):
    from runner.config.compose import Composer
    from runner.config.rules import rules

    composer = Composer(caller=ROOT)
    config = composer.load(composer.compose([*base, *overrides]))
    rules.check(config)
    return config


def by_canaries(epsilon, fault, seed):
    from runner.audit.canary_audit import run_audit
    from runner.commands.audit import CONFIDENCE, GUESSES

    config = configuration(
        f"privacy.epsilon={epsilon}", f"data.split_seed={seed}", f"seed={seed}", "hardware.threads=1"
    )
    with planted(fault):
        return run_audit(config, guesses=GUESSES, confidence=CONFIDENCE)


def of_a_recipe(epsilon, fault, seed):
    from runner.audit.config_audit import audit_config
    from tests.audit.configs import AUGMENTED, COPIES, SMALL, request, with_dropout

    recipe = [line for line in SMALL if not line.startswith(("privacy.noise", "privacy.unsafe", "privacy.acc"))]
    changes = COPIES if "copy" in fault else AUGMENTED
    config = configuration(*recipe, *changes, f"privacy.epsilon={epsilon}", f"seed={seed}", base=())
    with planted(with_dropout), planted(fault):
        return audit_config(request(config, **FEW), failures=Path("failures.log"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", action="store_true", help="audit a recipe of its own instead of canaries")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--faults", nargs="+", default=None)
    args = parser.parse_args()
    audit_of = of_a_recipe if args.recipe else by_canaries
    faults = args.faults or [*FAULTS, *(MORE if args.recipe else ())]
    print("| claimed ε | trainer | seed | right guesses | lower bound | verdict | failed |")
    print("|---|---|---|---|---|---|---|")
    for epsilon in args.epsilons:
        for fault in faults:
            for seed in range(args.seeds):
                start = time.perf_counter()
                audit = audit_of(epsilon, fault, seed)
                verdict = "fail" if audit.failures else "pass"
                print(
                    f"| {audit.claimed:.3f} | {fault} | {seed} | {audit.guesses.right} of {audit.guesses.made}"
                    f" | {audit.lower_bound:.2f} | {verdict} | {', '.join(audit.failures) or '-'} |",
                    flush=True,
                )
                print(f"{time.perf_counter() - start:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()

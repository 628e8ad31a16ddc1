"""The whole table of the audit: ``python -m tests.audit.campaign [--seeds N]`` from the root of the checkout.

A row for each trainer (the right one and seven wrong ones), claimed epsilon and repetition, as Markdown.  Coins differ
between repetitions and come from the number of the repetition; noise and sampling come from the system's generator.
"""

import argparse
import sys
import time

from tests.audit.faults import FAULTS, planted
from tests.conftest import ROOT


def configuration(*overrides):
    from runner.config import rules
    from runner.config.compose import Composer

    composer = Composer(caller=ROOT)
    config = composer.load(composer.compose(["experiment=audit", *overrides]))
    rules.check(config)
    return config


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--faults", nargs="+", default=list(FAULTS))
    args = parser.parse_args()
    from runner.audit.command import CONFIDENCE, GUESSES
    from runner.audit.run import run_audit

    print("| claimed ε | trainer | coins | right of 200 | lower bound | verdict | failed |")
    print("|---|---|---|---|---|---|---|")
    for epsilon in args.epsilons:
        for fault in args.faults:
            for seed in range(args.seeds):
                start = time.perf_counter()
                config = configuration(
                    f"privacy.epsilon={epsilon}", f"data.split_seed={seed}", f"seed={seed}", "hardware.threads=1"
                )
                with planted(fault):
                    audit = run_audit(config, guesses=GUESSES, confidence=CONFIDENCE)
                verdict = "fail" if audit.failures else "pass"
                print(
                    f"| {audit.claimed:.3f} | {fault} | {seed} | {audit.guesses.right} | {audit.lower_bound:.2f} "
                    f"| {verdict} | {', '.join(audit.failures) or '-'} |",
                    flush=True,
                )
                print(f"{time.perf_counter() - start:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()

"""Accountants and solver over random mechanisms: never below the lower bound, and just below the target.

    python -m tests.privacy.accounting_campaign                 # 200 mechanisms for each accountant: ten minutes
    python -m tests.privacy.accounting_campaign --count 20

For each random (q, sigma, steps, delta): the reported epsilon is at least dp-accounting's optimistic PLD bound, and the
noise that is solved for that epsilon, and the length, spend within (target - 0.01, target], as reported.
"""

import argparse
import statistics
import sys
import time

from runner.errors import RequestError
from runner.privacy.accounting.accountants import ACCOUNTANTS, epsilon
from runner.privacy.accounting.calibration import solve_noise_multiplier, solve_steps
from tests.privacy.test_accounting import optimistic_pld, random_mechanisms


def examine(accountant, mechanism, lower):
    """Whether epsilon, noise and length are right, and the seconds (of this process) that either search took."""
    found = epsilon(accountant, **mechanism)
    fixed = {key: mechanism[key] for key in ("sample_rate", "delta")}
    begun = time.process_time()
    noise = solve_noise_multiplier(accountant, epsilon=found, steps=mechanism["steps"], **fixed)
    solved = time.process_time()
    steps = solve_steps(accountant, epsilon=found, noise_multiplier=mechanism["noise_multiplier"], **fixed)
    ended = time.process_time()
    spent = epsilon(accountant, steps=mechanism["steps"], noise_multiplier=noise, **fixed)
    return found >= lower, found - 0.01 < spent <= found, steps >= mechanism["steps"], solved - begun, ended - solved


def main():
    """Print a line for each accountant and end with 0 only when all was right."""
    parser = argparse.ArgumentParser(prog="python -m tests.privacy.accounting_campaign", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="mechanisms for each accountant")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    mechanisms = random_mechanisms(arguments.count, arguments.seed)
    lower = [optimistic_pld(**mechanism) for mechanism in mechanisms]
    right = True
    for accountant in ACCOUNTANTS:
        found, refused = [], 0
        for mechanism, bound in zip(mechanisms, lower, strict=True):
            try:
                found.append(examine(accountant, mechanism, bound))
            except RequestError as refusal:
                refused += 1
                print(f"  {accountant} refuses {mechanism}: {refusal}")
        bounds, noises, lengths, *seconds = zip(*found, strict=True)
        told = ", ".join(
            f"{name} {statistics.median(took):.2f} s (largest {max(took):.2f})"
            for name, took in zip(("noise", "length"), seconds, strict=True)
        )
        print(
            f"{accountant}: bound {sum(bounds)}/{len(found)}, noise {sum(noises)}/{len(found)}, length"
            f" {sum(lengths)}/{len(found)}, refused {refused}; median CPU time of a search: {told}",
            flush=True,
        )
        right &= all(bounds) and all(noises) and all(lengths)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

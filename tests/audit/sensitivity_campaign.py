"""``python -m tests.audit.sensitivity_campaign FILE``: the sensitivity of one step in every cell, as a Markdown table.

By model, the most that one example at the first, middle or last place of a batch moved the clipped sum, over C, with
one and with two processes; beside it what it was with draws by position from the public seed, as until November 2026.
"""

import sys
import time
from pathlib import Path

import pytest
import torch

from runner.records.environment import describe_environment
from tests.audit.faults import draws_by_position
from tests.audit.sensitivity_cells import MODELS, every_cell, sensitivities


def main(path):
    started, found = time.monotonic(), {}
    for cell in every_cell():
        found[cell] = sensitivities(*cell)
        print(*cell, found[cell] if isinstance(found[cell], str) else max(one.moved for one in found[cell]), flush=True)
    Path(path).write_text(page(found, before(), time.monotonic() - started))


def before():
    """Model -> the same with padded crops drawn by position, by the way that takes every model."""
    with pytest.MonkeyPatch.context() as patch:
        draws_by_position(patch)
        return {
            model: max(one.moved for one in sensitivities(model, "functional", "fp32", "padded crop", 1))
            for model in MODELS
        }


def page(found, old, seconds):
    measured = {cell: ones for cell, ones in found.items() if not isinstance(ones, str)}
    wrong = [cell for cell, ones in measured.items() if not all(one.holds for one in ones)]
    environment = describe_environment()
    lines = [
        "# Sensitivity of one private step",
        "",
        f"{time.strftime('%Y-%m-%d')}, commit {environment['git']['commit'][:10]}, {environment['cpu']}, "
        f"torch {torch.__version__}, one thread; {len(measured)} cells in {seconds / 60:.0f} minutes. "
        "Repeat: `python -m tests.audit.sensitivity_campaign FILE`.",
        "",
        "The norm of the difference of the clipped sums of one step with and without the first, the middle and the",
        "last example of a batch, before noise, over the clipping norm C, with one process and two. A right mechanism",
        "gives at most 1 and rounding. Ways: ghost, functional and hooks; types: fp32, bf16, fp16 and fp64;",
        "augmentations: none, padded crop, flip, resized crop, jitter with hue; copies: 1 and 2 (large models: padded",
        "crops and 2 copies, by ghost and in float32 by functional). `before` is the same with draws by position in",
        "the batch from the public seed.",
        "",
        "| model | cells | refused | moved, fp32 and fp64 | moved, bf16 and fp16 | before |",
        "|---|---|---|---|---|---|",
    ]
    for model in MODELS:
        own = {cell: ones for cell, ones in measured.items() if cell[0] == model}
        refused = sum(isinstance(ones, str) for cell, ones in found.items() if cell[0] == model)
        wide, narrow = (
            [one.moved for cell, ones in own.items() if cell[2] in types for one in ones]
            for types in (("fp32", "fp64"), ("bf16", "fp16"))
        )
        lines.append(f"| {model} | {len(own)} | {refused} | {largest(wide)} | {largest(narrow)} | {old[model]:.2f} |")
    lines += ["", f"Cells beyond 1 and their rounding: {len(wrong)}." + "".join(f" {cell}" for cell in wrong), ""]
    return "\n".join(lines)


def largest(moved):
    """The largest of these, or that there are none."""
    return f"{max(moved):.6f}" if moved else "-"


if __name__ == "__main__":
    main(sys.argv[1])

"""The losses of a few steps of each trainer and precision, kept in files: a refactoring that changes numbers is seen.

``python -m tests.golden.golden_losses`` (``make golden``) writes them anew, for a change that is meant to change
numbers; the difference then stands in the commit.
"""

import json
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
COMMON = (
    "tracker=none", "hardware=cpu", "hardware.threads=1", "data.limit=120", "data.batch_size=16",
    "data.augment.crop_padding=1", "trainer.accumulation_steps=2", "trainer.epochs=3", "trainer.log_every=1",
    "trainer.label_smoothing=0.1", "optimizer.lr=0.05", "scheduler.warmup_epochs=1", "model=small_cnn",
    "model.widths=[8,16]", "seed=3",
)  # fmt: skip
MIXED = ("trainer=mixed_precision", "trainer.clip_norm=1")
PRIVATE = ("trainer=dp", "privacy.unsafe_noise_seed=5", "privacy.grad_sample=functional", "privacy.noise_multiplier=1")
RECIPES = {
    "standard": ("trainer=standard", "trainer.clip_norm=1", "trainer.ema_decay=0.9"),
    "mixed_precision_fp16": (*MIXED, "precision=fp16", "precision.init_scale=1.0e+8"),
    "mixed_precision_bf16": (*MIXED, "precision=bf16", "optimizer=adamw", "optimizer.lr=0.005"),
    "accelerate_two_processes": ("trainer=accelerate", "hardware.processes=2", "data.batch_size=8", "model.norm=group"),
    "dp": PRIVATE,
    "dp_bf16": (*PRIVATE, "precision=bf16"),
    "dp_fp16": (*PRIVATE, "precision=fp16"),
}
TOLERANCES = {
    "standard": 1e-5, "mixed_precision_fp16": 1e-4, "mixed_precision_bf16": 1e-2, "accelerate_two_processes": 1e-5,
    "dp": 1e-5, "dp_bf16": 1e-3, "dp_fp16": 1e-4,
}  # fmt: skip
"""Largest relative difference of a loss that counts as the same.

At least seven times what lies between AVX-512, AVX2 and no vector instructions (ATEN_CPU_CAPABILITY,
ONEDNN_MAX_CPU_ISA and MKL_ENABLE_INSTRUCTIONS; measured 1.3e-7, 3e-6, 1.3e-3, as standard, 1.2e-7, 7.4e-5, 8.4e-6), and
less than what a learning rate or clipping bound does that is 5 % higher (1.1e-2, 1.2e-3, 1.7e-2 and, for the three
private ones, 2e-3).
"""


def losses(run_dir):
    """Every loss that a run has recorded, in order, as [kind, step, loss]."""
    from runner.records.metrics import read_metrics

    return [[record["kind"], record["step"], record["loss"]] for record in read_metrics(run_dir / "metrics.jsonl")]


def kept(name):
    """The losses in the file of a recipe."""
    return json.loads((FOLDER / f"{name}.json").read_text())["losses"]


def deviation(found, expected):
    """Largest relative difference; the records must be the same."""
    assert [record[:2] for record in found] == [record[:2] for record in expected]
    return max(abs(a[2] - b[2]) / abs(b[2]) for a, b in zip(found, expected, strict=True))


def measure(name, run_dir, *changes):
    """Run a recipe and return its losses."""
    from runner.config.compose import Composer
    from runner.config.load import load_config
    from runner.config.rules.rules import check
    from runner.execution.job import run_job

    composer = Composer(caller=FOLDER)
    composed = composer.compose([*COMMON, *RECIPES[name], *changes])
    config = load_config(composed, composer.option_defaults(composed))
    check(config)
    run_job(config, {}, run_dir, None)
    return losses(run_dir)


def main():
    """Write every file anew and say how far the losses have moved."""
    for name in RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(name, Path(folder))
        file = FOLDER / f"{name}.json"
        before = f"largest relative change {deviation(found, kept(name)):.1e}" if file.exists() else "new"
        rows = ",\n".join(f"    {json.dumps(record)}" for record in found)
        file.write_text(f'{{\n  "recipe": {json.dumps(" ".join(RECIPES[name]))},\n  "losses": [\n{rows}\n  ]\n}}\n')
        print(f"{name:25} {before}")


if __name__ == "__main__":
    main()

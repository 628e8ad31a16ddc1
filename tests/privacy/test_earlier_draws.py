"""Private runs of versions whose augmentation and dropout went by the place in the batch: nothing goes on from them."""

import json

import pytest

from runner.config.errors import RequestError
from runner.job import run_job
from runner.training.checkpoint import seal

RECIPE = ("trainer=dp", "data.limit=60", "data.batch_size=16", "model=linear", "trainer.epochs=1",
          "privacy.noise_multiplier=1", "privacy.grad_sample=ghost", "hardware.threads=1")  # fmt: skip


def test_a_checkpoint_of_before_is_refused_by_the_draws(train, configure):
    run_dir = train(*RECIPE)
    file = run_dir / "checkpoints" / "last" / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["digest"], manifest["recipe"]["privacy"]["draws"]
    file.write_bytes(seal(manifest | {"identity": "0" * 64}))
    run = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps(run | {"status": "running"}))
    with pytest.raises(RequestError, match=r"privacy\.draws: got example, expected augmentation and dropout by the"):
        run_job(configure("tracker=none", *RECIPE), {}, run_dir, None)

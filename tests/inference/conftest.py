"""Finished runs on real digits, trained once for the whole folder, and short ways to ask them something."""

import pytest
from omegaconf import OmegaConf

from runner.config.load import load_config
from runner.config.rules.rules import check


@pytest.fixture(scope="session")
def finished(composer, tmp_path_factory):
    """finished("key=value", ...) -> the folder of a run as the command line leaves it, without its process."""
    from runner.execution.job import run_job

    def finished(*overrides):
        run_dir = tmp_path_factory.mktemp("run")
        composed = composer.compose(["tracker=none", "hardware.threads=1", *overrides])
        config = load_config(composed, composer.option_defaults(composed))
        check(config)
        (run_dir / ".hydra").mkdir()
        own = [str(key) for key in composed if key != "hydra"]
        OmegaConf.save(OmegaConf.masked_copy(composed, own), run_dir / ".hydra" / "config.yaml")
        run_job(config, {}, run_dir, None)
        return run_dir

    return finished


@pytest.fixture(scope="session")
def digits_run(finished):
    return finished("trainer.epochs=2")


@pytest.fixture(scope="session")
def private_run(finished, tmp_path_factory):
    """A differentially private run; its ledger lies beside it."""
    ledger = tmp_path_factory.mktemp("ledger")
    return finished(
        "trainer=dp", "model=linear", "trainer.steps=4", "privacy.noise_multiplier=1", "privacy.grad_sample=functional",
        f"privacy.ledger_dir={ledger}",
    )  # fmt: skip


@pytest.fixture
def ask(tmp_path):
    """ask(run, "key=value", ...) -> (inference.json as plain values, folder of the results).

    Its confusion matrix is drawn with ``draw=True`` alone, which takes as long as the rest.
    """
    import json

    from runner.inference.evaluation import infer
    from runner.inference.request import read_request

    count = iter(range(100))

    def ask(run, *words, draw=False):
        output = tmp_path / f"results{next(count)}"
        with pytest.MonkeyPatch.context() as patch:
            if not draw:
                patch.setattr("runner.inference.confusion_plot.draw_confusion", lambda *_, **__: b"")
            infer(read_request([f"run={run}", f"output={output}", *words]))
        return json.loads((output / "inference.json").read_text()), output

    return ask


@pytest.fixture
def digit_files(digits_run, tmp_path):
    """The run's test images as PNG files in folders named like their classes."""
    from PIL import Image

    from runner.inference.finished_run import open_run
    from runner.inference.image_sources import open_split

    subject = open_split(open_run(digits_run), "test")
    root = tmp_path / "files"
    for position, (row, label) in enumerate(zip(subject.images.rows, subject.images.labels, strict=True)):
        folder = root / subject.data.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(subject.images.images[row, :, :, 0]).save(folder / f"{position:03}.png")
    return root

"""What a run that cannot go on in its folder names: a key that was typed, and not what follows from it."""

import pytest
from omegaconf import OmegaConf

from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.training.checkpointing.resume import identity_mismatch, typed_key
from runner.training.run_data import open_run_data

SMALL = ("data=digits", "model=linear", "hardware=cpu", "tracker=none", "data.batch_size=64")
PRIVATE = (*SMALL, "trainer=dp", "privacy.accountant=rdp", "privacy.epsilon=3", "trainer.epochs=4")


@pytest.fixture
def asked(configure):
    def asked(*overrides):
        config = configure(*overrides)
        return build_plan(config, open_run_data(config), detect_device(config.hardware), processes=1).identity_fields()

    return asked


@pytest.mark.parametrize(
    ("begun", "typed", "line"),
    [
        (PRIVATE, "trainer.epochs=5", "trainer.epochs: got 101 updates, expected 81 updates, as in the checkpoints"),
        (PRIVATE, "privacy.epsilon=4", "privacy.epsilon: got 4.0, expected 3.0, as in the checkpoints"),
        (PRIVATE, "privacy.delta=1e-6", "privacy.delta: got 1e-06, expected"),
        (PRIVATE, "data.batch_size=32", "data.batch_size: got 32, expected 64, as in the checkpoints"),
        (SMALL, "trainer=dp", "trainer: got a private trainer, expected no private trainer, as in"),
        ((*PRIVATE, "privacy.noise_multiplier=2", "privacy.epsilon=null"), "privacy.noise_multiplier=3",
         "privacy.noise_multiplier: got 3.0, expected 2.0, as in"),
        ((*SMALL, "optimizer.scale_lr=linear", "optimizer.reference_batch_size=64"), "data.batch_size=32",
         "data.batch_size: got 32, expected 64, as in"),
    ],
)  # fmt: skip
def test_the_cause_is_named(asked, tmp_path, begun, typed, line):
    assert str(identity_mismatch(tmp_path, asked(*begun), asked(*begun, typed))).startswith(line)


def leaves(fields, path=()):
    for key, value in fields.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield ".".join((*path, key))


def test_every_part_of_a_plan_is_named_by_a_key_that_can_be_typed(asked, composer):
    composed = composer.compose(PRIVATE)
    unknown = [path for path in leaves(asked(*PRIVATE, "precision=fp16")) if not is_key(composed, typed_key(path))]
    assert not unknown


def is_key(composed, key):
    at, _, last = key.rpartition(".")
    return last in (OmegaConf.select(composed, at) if at else composed)

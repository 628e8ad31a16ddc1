"""Small recipes of one's own for audits: a second each, with every step seen."""

from runner.audit.config_audit import ConfigAuditRequest
from tests.audit.faults import model_changed

SMALL = (
    "trainer=dp", "data=synthetic", "data.num_train=120", "data.num_test=10", "data.image_size=8", "data.channels=1",
    "data.val_fraction=0", "data.batch_size=12", "model.widths=[4,8]", "hardware=cpu", "hardware.threads=1",
    "privacy.grad_sample=ghost", "privacy.accountant=rdp", "privacy.noise_multiplier=1", "trainer.epochs=30",
    "privacy.unsafe_noise_seed=7",
)  # fmt: skip
"""120 images, q = 0.1, a small convolutional network."""
AUGMENTED = ("data.augment.crop_padding=1", "data.augment.flip=true")
COPIES = (*AUGMENTED, "privacy.augmentation_multiplicity=2")


def dropping(model):
    """``model`` with dropout before its last layer."""
    import torch

    return torch.nn.Sequential(*model[:-1], torch.nn.Dropout(0.5), model[-1])


with_dropout = model_changed(dropping, unchecked=False)


def request(config, **numbers):
    return ConfigAuditRequest(config=config, run=None, identity=None, guesses=None, confidence=0.95, **numbers)

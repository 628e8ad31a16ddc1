"""The recipes whose runs are killed: a second of work each, with all the state that a run can have."""

from torch import nn

COMMON = (
    "tracker=none", "hardware=cpu", "hardware.threads=1", "data.limit=44", "data.val_fraction=0.2",
    "data.batch_size=8", "data.augment.crop_padding=1", "trainer.label_smoothing=0.1", "trainer.log_every=4",
    "trainer.epochs=6", "optimizer.lr=0.05", "trainer.save_every=1",
)  # fmt: skip
DROPOUT = (
    "model=small_cnn",
    "model.widths=[8,16]",
    "model._target_=tests.faults.recipes.dropout_net",
    "model.name=dropout_net",
)
FLOAT16 = ("precision=fp16", "precision.init_scale=1.0e+10", "precision.growth_interval=5")
# A gain that is hardly ever reached: nearly every evaluation lowers the learning rate.
DROPPING = ("scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=1", "scheduler.factor=0.8")
# One way to the gradients: a run killed before its first checkpoint would measure the ways anew, and each rounds
# differently.
PRIVATE = ("trainer=dp", "privacy.grad_sample=ghost", "model=mlp", "model.hidden=[16]")

RECIPES = {
    "standard": ("trainer=standard", *DROPPING, *DROPOUT),
    "mixed_precision fp16": (
        "trainer=mixed_precision",
        *FLOAT16,
        *DROPOUT,
        "trainer.clip_norm=1",
        "trainer.min_delta=1",
    ),
    "mixed_precision bf16": ("trainer=mixed_precision", "precision=bf16", "optimizer=adamw", *DROPOUT),
    "accelerate, 2 processes": ("trainer=accelerate", "hardware.processes=2", "data.batch_size=4", *DROPOUT),
    "dp": (
        "trainer=dp",
        "privacy.noise_multiplier=4",
        "privacy.grad_sample=ghost",
        "privacy.augmentation_multiplicity=2",
        *DROPOUT,
    ),
    "dp bf16": (*PRIVATE, "precision=bf16"),
    "dp fp16": (*PRIVATE, "precision=fp16"),
}


def dropout_net(*, in_channels, num_classes, image_size, widths):
    """A small convolutional network with dropout, BatchNorm and momentum: weights, buffers and randomness."""
    first, second = widths
    return nn.Sequential(
        nn.Conv2d(in_channels, first, 3, padding=1), nn.BatchNorm2d(first), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(4 * second, num_classes),
    )  # fmt: skip

"""A model that ends its process in several ways when it is built."""

import ctypes
import os
import signal
from pathlib import Path

from runner.models.dense import linear

MENDED = "FAULTY_MODEL_MENDED"
"""Environment variable: a file whose existence mends the model."""


def build(*, in_channels, num_classes, image_size, how="well"):
    """A linear model, unless ``how`` says otherwise."""
    if not Path(os.environ.get(MENDED, "/nowhere")).exists():
        match how:
            case "raises":
                raise ValueError("the model\ncannot be built")
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "crashes":
                ctypes.string_at(0)
    return linear(in_channels=in_channels, num_classes=num_classes, image_size=image_size)

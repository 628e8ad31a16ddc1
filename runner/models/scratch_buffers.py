"""Forward passes that leave no trace in a model's buffers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def scratch_buffers(model: nn.Module) -> Iterator[None]:
    """Inside, the modules of ``model`` have copies of their buffers, which are thrown away at the end.

    Buffers of compiled TorchScript are left alone.
    """
    own = [
        (module._buffers, dict(module._buffers))
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule) and module._buffers
    ]
    for held, buffers in own:
        held.update({name: None if buffer is None else buffer.clone() for name, buffer in buffers.items()})
    try:
        yield
    finally:
        for held, buffers in own:
            held.update(buffers)

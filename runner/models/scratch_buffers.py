"""Forward passes that leave no trace in a model's buffers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from runner.internals.modules import buffer_slots


@contextmanager
def scratch_buffers(model: nn.Module) -> Iterator[None]:
    """Inside, the modules of ``model`` have copies of their buffers, which are thrown away at the end.

    Buffers of compiled TorchScript are left alone.
    """
    own = [
        (module, name, buffer)
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)
        for name, buffer in buffer_slots(module).items()
    ]
    for module, name, buffer in own:
        setattr(module, name, None if buffer is None else buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in own:
            setattr(module, name, buffer)

"""A mode that sees every operation on tensors, without torch's compiler, whose import costs more than planning may."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode

from runner.internals.plain import plain_torch


class Operations(TorchDispatchMode):
    """The base of what counts operations: ``__torch_dispatch__`` gets each one below autograd.

    torch documents the class and keeps it in a private module.  At the first operation it imports ``torch._dynamo`` to
    mark the mode as one to leave alone, unless the mode says that there is no need to.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return plain_torch()

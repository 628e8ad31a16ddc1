"""torch's multi-head attention from inside of a mode that handles the call of it."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch.nn.functional as F

multi_head_attention_body: Callable[..., Any] = FunctionType(
    F.multi_head_attention_forward.__code__,
    {**F.multi_head_attention_forward.__globals__, "has_torch_function": lambda tensors: False},
    argdefs=F.multi_head_attention_forward.__defaults__,
)
"""``F.multi_head_attention_forward`` without its first question, whether a mode wants to handle the call.

It is written in Python on top of products that a ``TorchFunctionMode`` may want to handle.  Called inside of the mode's
own handler it would be handed to the mode again, for ever; called outside of the mode its products are not seen.
"""

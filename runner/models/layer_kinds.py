"""torch's layers by what they do, in every number of dimensions."""

from __future__ import annotations

from typing import Any, cast

from torch import nn


def _base(layer: Any) -> Any:
    """What the layers of one kind derive from, which torch does not export.

    Layers of other libraries, synchronised or fused ones among them, derive from it directly.
    """
    return layer.__mro__[1]


BATCH_NORMS = (cast("type[nn.BatchNorm1d]", _base(nn.BatchNorm1d)),)
INSTANCE_NORMS = (cast("type[nn.InstanceNorm1d]", _base(nn.InstanceNorm1d)),)
DROPOUTS = (cast("type[nn.Dropout]", _base(nn.Dropout)),)

"""An exchange of BatchNorm for GroupNorm that shares no code with the product's: formulas and a walk over names."""

import copy

from torch import nn

BATCH = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm", "BatchNormAct2d", "SyncBatchNormAct", "Plain")


class HandMade(nn.Module):
    """GroupNorm from its definition (Wu and He 2018, equations 1, 2 and 7), then what was fused with BatchNorm."""

    def __init__(self, batch):
        super().__init__()
        self.weight, self.bias, self.eps = batch.weight, batch.bias, batch.eps
        self.drop = getattr(batch, "drop", None)
        self.act = getattr(batch, "act", None)
        channels = batch.num_features
        # the largest number of groups up to 32 that divides the channels and leaves four to each, or all in one
        fitting = [g for g in range(1, 33) if channels % g == 0 and channels // g >= 4]
        self.groups = fitting[-1] if fitting else 1

    def forward(self, x):
        grouped = x.reshape(len(x), self.groups, -1)
        mean = grouped.mean(2, keepdim=True)
        variance = ((grouped - mean) ** 2).mean(2, keepdim=True)
        x = ((grouped - mean) / (variance + self.eps) ** 0.5).reshape(x.shape)
        over_channels = (1, -1, *[1] * (x.dim() - 2))
        if self.weight is not None:
            x = x * self.weight.view(over_channels)
        if self.bias is not None:
            x = x + self.bias.view(over_channels)
        x = x if self.drop is None else self.drop(x)
        return x if self.act is None else self.act(x)


def hand_made(model):
    """A copy of ``model`` with ``HandMade`` in the place of each BatchNorm, and how many there were."""
    model = copy.deepcopy(model)
    count = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ in BATCH:
                setattr(module, name, HandMade(child))
                count += 1
    return model, count

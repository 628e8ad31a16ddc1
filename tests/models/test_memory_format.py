import torch
from torch import nn

from runner.models.memory_format import format_for


def test_channels_come_last_only_where_the_model_convolves():
    convolving, dense = nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    assert format_for(convolving, channels_last=True) == torch.channels_last
    assert format_for(convolving, channels_last=False) == torch.contiguous_format
    assert format_for(dense, channels_last=True) == torch.contiguous_format

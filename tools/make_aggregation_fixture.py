"""Makes tests/data/aggregation: the parts of dla_builder in PyTorch, as one network over a pyramid of three maps.

    python tools/make_aggregation_fixture.py        needs torch, timm, numpy and safetensors

tests/test_builder.c builds the same. Sides are no multiples of 32, so that enlarged maps are cut.
"""
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from timm.models.dla import DlaBasic, DlaRoot, DlaTree
from torch import nn

from dense_reference import DLAUp, IDAUp, use_ceil_mode

HEIGHT, WIDTH = 90, 134
MAPS = [("fine", 6, 4), ("middle", 10, 8), ("coarse", 12, 16)]   # name, channels, stride


def conv(in_channels, channels, kernel, stride):
    return nn.Sequential(nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(channels), nn.ReLU())


class Fusion(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv(12, 8, 3, 1)
        self.extra = conv(6, 10, 5, 2)
        self.tree = DlaTree(2, DlaBasic, 12, 16, 2, level_root=True, root_shortcut=True)
        self.pair = DlaRoot(20, 10, 1, True)
        self.ida = IDAUp(7, [6, 10, 8, 16], [1, 2, 4, 8])
        self.up = DLAUp([7, 10, 8])
        self.scores = nn.Conv2d(7, 3, 1)
        use_ceil_mode(self)

    def forward(self, fine, middle, coarse):
        stem = self.stem(coarse)
        pair = self.pair([middle, self.extra(fine)])
        joined, _ = self.ida([fine, pair, stem, self.tree(coarse)])
        return self.scores(self.up([joined, pair, stem]))


def main():
    folder = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "aggregation"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(11)
    network = Fusion()
    inputs = [torch.randn(2, channels, -(-HEIGHT // stride), -(-WIDTH // stride)) for _, channels, stride in MAPS]
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None   # the statistics of what is seen
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        elif isinstance(module, nn.ConvTranspose2d):   # no channel like the other
            module.weight.data += 0.1 * torch.randn_like(module.weight)
    with torch.no_grad():
        network(*inputs)
        network.eval()
        expected = network(*inputs)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / "fusion.safetensors")
    for (name, _, _), tensor in zip(MAPS, inputs):
        np.save(folder / f"{name}.npy", tensor.numpy())
    np.save(folder / "expected.npy", expected.numpy())


main()

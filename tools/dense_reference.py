"""DLA-Up in PyTorch over timm's backbones: the twin that dense prediction is compared with (paper section 4.2).

State-dict names are those of the authors' DLASeg. Sizes that are no multiples of the stride are handled as this project
does: max-pools in ceil mode, an enlarged map cut at the bottom and right to the size of the finer one.
"""
import math

import timm
import torch
from torch import nn


def use_ceil_mode(module):
    for each in module.modules():
        if isinstance(each, nn.MaxPool2d):
            each.ceil_mode = True


def bilinear_weight(channels, kernel):
    f = math.ceil(kernel / 2)
    c = (2 * f - 1 - f % 2) / (2 * f)
    line = torch.tensor([1 - abs(i / f - c) for i in range(kernel)])
    return (line[:, None] * line[None, :]).expand(channels, 1, kernel, kernel).clone()


def enlarge(channels, factor):
    up = nn.ConvTranspose2d(channels, channels, 2 * factor, stride=factor, padding=factor // 2, groups=channels, bias=False)
    up.weight.data = bilinear_weight(channels, 2 * factor)
    return up


def cut(x, like):
    return x[:, :, : like.shape[2], : like.shape[3]]


class IDAUp(nn.Module):
    def __init__(self, out_channels, channels, factors):
        super().__init__()
        self.count = len(channels)
        for k, (c, f) in enumerate(zip(channels, factors)):
            proj = nn.Identity() if c == out_channels else nn.Sequential(
                nn.Conv2d(c, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU())
            setattr(self, f"proj_{k}", proj)
            setattr(self, f"up_{k}", nn.Identity() if f == 1 else enlarge(out_channels, f))
            if k:
                setattr(self, f"node_{k}", nn.Sequential(
                    nn.Conv2d(2 * out_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()))

    def forward(self, layers):
        layers = [getattr(self, f"up_{k}")(getattr(self, f"proj_{k}")(x)) for k, x in enumerate(layers)]
        x, results = layers[0], []
        for k in range(1, self.count):
            x = getattr(self, f"node_{k}")(torch.cat([x, cut(layers[k], layers[0])], 1))
            results.append(x)
        return x, results


class DLAUp(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.count = len(channels)
        in_channels, scales = list(channels), [2 ** k for k in range(len(channels))]
        for i in range(self.count - 1):
            j = self.count - 2 - i
            setattr(self, f"ida_{i}", IDAUp(channels[j], in_channels[j:], [s // scales[j] for s in scales[j:]]))
            scales[j + 1:] = [scales[j]] * (self.count - j - 1)
            in_channels[j + 1:] = [channels[j]] * (self.count - j - 1)

    def forward(self, layers):
        layers = list(layers)
        for i in range(self.count - 1):
            x, results = getattr(self, f"ida_{i}")(layers[-i - 2:])
            layers[-i - 1:] = results
        return x


def settle(network):
    """Gives batch norms the statistics of what they see, so that values keep their size through the network."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(torch.randn(2, 3, 128, 128))
    return network.eval()


class DLASeg(nn.Module):
    def __init__(self, base, classes, down_ratio=2):
        super().__init__()
        self.first = int(math.log2(down_ratio))
        self.base = timm.create_model(base, num_classes=1000) if isinstance(base, str) else base
        use_ceil_mode(self.base)
        self.dla_up = DLAUp(self.base.channels[self.first:])
        self.fc = nn.Sequential(nn.Conv2d(self.base.channels[self.first], classes, 1))
        self.up = enlarge(classes, down_ratio)

    def forward(self, image):
        x, levels = self.base.base_layer(image), []
        for level in range(6):
            x = getattr(self.base, f"level{level}")(x)
            levels.append(x)
        x = self.dla_up(levels[self.first:])
        return torch.log_softmax(cut(self.up(self.fc(x)), image), 1)

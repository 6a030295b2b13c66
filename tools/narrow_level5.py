"""Halves level 5 of a trained dla46_c with DLA-Up: a start for the narrow network that is built in (docs/dense.md).

    python tools/narrow_level5.py run/best.safetensors start.safetensors        needs numpy and safetensors

The first half of level 5's channels stays, the rest of the network is kept as it is. What the narrow network has no more
(the projection from 256 to 128 channels in DLA-Up) is left out. The result predicts badly: it is to be trained on.
"""
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

LEVEL = "base.level5."
HALF = 128   # of the channels of level 5; level 4 has as many


def narrow(name, tensor):
    """The tensor as the narrow network has it; None where that has none."""
    if name.startswith(("dla_up.ida_0.proj_1.", LEVEL + "project.")):
        return None
    if not name.startswith(LEVEL):
        return tensor
    tensor = tensor[: tensor.shape[0] // 2]
    if tensor.ndim == 1:
        return tensor
    if name == LEVEL + "root.conv.weight":   # it reads both blocks, each of 256 channels, and level 4
        return np.concatenate([tensor[:, :HALF], tensor[:, 2 * HALF : 3 * HALF], tensor[:, 4 * HALF :]], axis=1)
    if name == LEVEL + "tree1.conv1.weight":   # it reads level 4
        return tensor
    return tensor[:, : tensor.shape[1] // 2]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with safe_open(sys.argv[1], "numpy") as file:
        tensors = {name: narrow(name, file.get_tensor(name)) for name in file.keys()}
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items() if tensor is not None}, sys.argv[2])


main()

"""Makes tests/data/dense: a small dense network, its weights, an input and what PyTorch gives for it.

    python tools/make_dense_fixture.py        needs torch, timm, numpy and safetensors
"""
import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from timm.models.dla import DLA, DlaBasic

from dense_reference import DLASeg, settle

folder = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "dense"
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(7)
config = {"name": "small_up", "levels": [1, 1, 1, 2, 1, 1], "channels": [4, 6, 8, 8, 12, 12], "block": "basic", "residual_root": False,
          "num_classes": 3, "in_channels": 3, "output_stride": 32, "down_ratio": 4}
base = DLA(config["levels"], config["channels"], block=DlaBasic, num_classes=1000)
del base.fc
network = settle(DLASeg(base, config["num_classes"], config["down_ratio"]))
save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / "small_up.safetensors")
(folder / "small_up.json").write_text(json.dumps(config, indent=2) + "\n")
image = torch.randn(1, 3, 33, 47)
np.save(folder / "input.npy", image.numpy())
with torch.no_grad():
    np.save(folder / "expected.npy", network(image).numpy())

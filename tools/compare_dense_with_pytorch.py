"""Compares `dla run` on dense networks with PyTorch, at several sizes: python tools/compare_dense_with_pytorch.py [DLA]

Needs torch, timm, numpy and safetensors. Prints the largest difference from PyTorch in float64, relative to the largest
log-probability, by default and with --exact, beside PyTorch's own in float32. With the weights that networks begin with, exits 1
above 1e-4. With batch norms that normalise what they see, every rounding is carried to the end, PyTorch's too: exits 1 above 1e-3,
or where --exact exceeds both 1e-4 and twice PyTorch's.
"""
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import save_file

from dense_reference import DLASeg, settle

dla = sys.argv[1] if len(sys.argv) > 1 else "build/dla"
torch.manual_seed(0)
torch.set_num_threads(2)
failed = False


def run(name, options, folder):
    subprocess.run([dla, "run", name, *options, "--weights", folder / "weights.safetensors", "--input", folder / "x.npy", "--output",
                    folder / "y.npy"], check=True)
    return np.load(folder / "y.npy")


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    for base, ratio, classes in (("dla34", 2, 19), ("dla34", 4, 2), ("dla46_c", 8, 11), ("dla60", 2, 11), ("dla102", 4, 5), ("dla169", 16, 3)):
        network = DLASeg(base, classes, ratio).eval()
        options = ["--classes", str(classes), "--down-ratio", str(ratio)]
        for hard in (False, True):
            if hard:
                settle(network.float())
            save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "weights.safetensors")
            for height, width in ((360, 480), (225, 319), (33, 47)):
                image = torch.randn(1, 3, height, width)
                np.save(folder / "x.npy", image.numpy())
                found = [run(base + "up", options + more, folder) for more in ([], ["--exact"])]
                with torch.no_grad():
                    single = network.float()(image).numpy()
                    expected = network.double()(image.double()).numpy()
                network.float()
                if found[0].shape != expected.shape:
                    sys.exit(f"{base}up gives {found[0].shape}, PyTorch {expected.shape}")
                ours, exact, torchs = (np.abs(each - expected).max() / np.abs(expected).max() for each in (*found, single))
                print(f"{base}up /{ratio} {height}x{width}, {'hard' if hard else 'initial'} weights: {ours:.1e}, --exact {exact:.1e} "
                      f"(PyTorch float32 {torchs:.1e})", flush=True)
                failed |= not (ours <= 1e-3 and exact <= max(1e-4, 2 * torchs)) if hard else not ours <= 1e-4
sys.exit(failed)

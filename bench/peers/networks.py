"""The networks that every engine gets: timm's, untrained, with batch norm statistics that were measured on noise.

Untrained networks cost what trained ones cost, and need no download. Their batch norms are made to normalise, so that values
neither vanish nor explode on the way and answers can be compared. Everything follows from a fixed seed.

"dla34up-4" is dla34 with DLA-Up at down ratio 4, with 19 classes and photographs of 480x360 (tools/dense_reference.py is its PyTorch form).
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import numpy as np
import safetensors.torch
import timm
import torch

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import dense_reference  # noqa: E402

DENSE_CLASSES = 19


class Network:
    """A network and the files that hold the same for others, made when they are asked for and kept in `folder`."""

    def __init__(self, name: str, folder: pathlib.Path, batch: int) -> None:
        self.name, _, self.down_ratio = name.partition("-")
        self._stem = folder / name
        if self.down_ratio:
            self.height, self.width = 360, 480
            self.module = dense_reference.DLASeg(self.name.removesuffix("up"), DENSE_CLASSES, int(self.down_ratio))
        else:
            self.height, self.width = 224, 224
            self.module = timm.create_model(name)
        if self.weights.exists():
            self.module.load_state_dict(safetensors.torch.load_file(self.weights))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._initialise()
            safetensors.torch.save_file({key: tensor.contiguous() for key, tensor in self.module.state_dict().items()}, self.weights)
        self.module.eval()
        self.input = torch.randn(batch, 3, self.height, self.width, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            self.answer: np.ndarray = self.module(self.input).numpy()

    def _initialise(self) -> None:
        generator = torch.Generator().manual_seed(0)
        for module in self.module.modules():
            if isinstance(module, torch.nn.Conv2d):
                fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
                module.weight.data.normal_(0.0, (2.0 / fan_out) ** 0.5, generator=generator)
            elif isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        self.module.train()
        with torch.no_grad():
            self.module(torch.randn(4, 3, 224, 224, generator=generator))

    def arguments(self) -> list[str]:
        """What `dla bench` needs to know of it."""
        return [self.name] + (["--down-ratio", self.down_ratio] if self.down_ratio else [])

    @property
    def weights(self) -> pathlib.Path:
        return self._stem.with_suffix(".safetensors")

    def onnx(self, batch: int | None = None) -> pathlib.Path:
        batch = batch or self.input.shape[0]
        path = self._stem.with_name(f"{self._stem.name}_{batch}.onnx")
        if self.down_ratio:   # what `dla export` writes, which the others run faster than PyTorch's export
            subprocess.run([os.environ["DLA_BINARY"], "export", "--weights", self.weights, "--size", f"{self.height}x{self.width}", path], check=True)
        elif not path.exists():
            torch.onnx.export(self.module, (self.input[:batch],), str(path), opset_version=17, input_names=["input"],
                              output_names=["output"], dynamo=False)
        return path

    def ncnn(self) -> tuple[pathlib.Path, pathlib.Path]:
        """The network as ncnn's two files, for one image, by its own converter: from ONNX, as on deep trees it fails on PyTorch's form."""
        import pnnx

        param = self._stem.with_name(f"{self._stem.name}_1.ncnn.param")
        if not param.exists():
            converter = pathlib.Path(pnnx.__file__).with_name("pnnx")
            shape = f"inputshape=[1,3,{self.height},{self.width}]f32"
            subprocess.run([converter, self.onnx(1), shape, "fp16=0"], cwd=self._stem.parent, stdout=subprocess.DEVNULL, check=True)
        return param, param.with_suffix(".bin")

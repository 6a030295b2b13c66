"""Each engine's way of running one network in float32: a function that prepares it and gives another that runs it once.

All get the same weights and the same input and keep to their makers' advice for latency on a CPU. Preparing may take
minutes (compilation); it is not measured.
"""

from __future__ import annotations

import os
import subprocess
from typing import Callable

import numpy as np
import torch

from networks import Network

Runner = Callable[[], np.ndarray]


def dla(network: Network, threads: int) -> Runner:
    import dla as door

    # What `dla bench` does first on a machine: time the kernels that are to be chosen from.
    shape = network.input.shape
    subprocess.run([os.environ["DLA_BINARY"], "bench", *network.arguments(), "--batch", str(shape[0]), "--threads", str(threads), "--size",
                    f"{shape[2]}x{shape[3]}", "--seconds", "0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    model = door.Model(weights=network.weights, threads=threads)   # names and shapes tell the network, of dense ones the down ratio, too
    batch = network.input.numpy()
    return lambda: model(batch)


def onnxruntime(network: Network, threads: int) -> Runner:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(network.onnx()), options, providers=["CPUExecutionProvider"])
    batch = network.input.numpy()
    return lambda: session.run(None, {"input": batch})[0]


def openvino(network: Network, threads: int) -> Runner:
    import openvino as ov

    core = ov.Core()
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(network.onnx()), "CPU", hints).create_infer_request()
    batch = network.input.numpy()

    def run() -> np.ndarray:
        request.infer({0: batch})
        return request.get_output_tensor(0).data.copy()

    return run


def _channels_last(network: Network) -> tuple[torch.nn.Module, torch.Tensor]:
    return network.module.to(memory_format=torch.channels_last), network.input.to(memory_format=torch.channels_last)


def pytorch(network: Network, threads: int) -> Runner:
    module, batch = _channels_last(network)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return module(batch).numpy()

    return run


def pytorch_compiled(network: Network, threads: int) -> Runner:
    import torch._inductor.config as inductor

    inductor.freezing = True
    if os.environ.get("DLA_ISA") == "avx2":
        inductor.cpp.simdlen = 256
    module, batch = _channels_last(network)
    compiled = torch.compile(module)

    def run() -> np.ndarray:
        with torch.no_grad():
            return compiled(batch).numpy()

    return run


def ncnn(network: Network, threads: int) -> Runner:
    import ncnn as engine

    param, weights = network.ncnn()
    net = engine.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    net.load_param(str(param))
    net.load_model(str(weights))
    images = [engine.Mat(np.ascontiguousarray(image)) for image in network.input.numpy()]

    def run() -> np.ndarray:   # it has no batches: one image after the other
        answers = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input("in0", image)
            answers.append(np.array(extractor.extract("out0")[1]))
        return np.stack(answers)

    return run


ENGINES: dict[str, Callable[[Network, int], Runner]] = {
    "dla": dla,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "pytorch-compiled": pytorch_compiled,
    "pytorch": pytorch,
    "ncnn": ncnn,
}

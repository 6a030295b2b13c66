"""PyTorch's ways of running a network on a GPU, the clock they are timed with, and dla as a process beside them.

Data are on the device beforehand and stay there. PyTorch keeps to its makers' advice: channels last, inference mode, cuDNN's own
choice of kernels by measurement, CUDA graphs. float32 means float32: TF32 is off but where the precision is called so.

A GPU's time is taken from run to run of many that are queued one after another, as `dla bench` does it: starting the first and
waiting for the last do not count, gaps in between do. PyTorch's clock is events on the GPU.

"device" may be a CPU, to try all this without a GPU; it has no graphs, and its clock is the machine's.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from typing import Callable

import timm
import torch

Runner = Callable[[], torch.Tensor]

TYPES = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Of the largest logit, against PyTorch's float32 answer on the CPU: what rounding on the way through a hundred layers may cost. These
# networks are untrained, which makes them sensitive: PyTorch's own float16 was off by up to 0.15.
TOLERANCE = {"float32": 1e-3, "tf32": 2.5e-1, "float16": 2.5e-1, "bfloat16": 5e-1}

CAPTURE_WARM_RUNS = 3   # before a graph is captured: kernels are loaded and chosen, TorchScript compiles what it has seen run twice
SLOT_RUNS_MIN, SLOT_RUNS_MAX = 3, 200


def allow_tf32(allowed: bool) -> None:
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest error as a share of the largest logit."""
    return float((found.detach().double().cpu() - wanted.double()).abs().max() / wanted.abs().max())


# ---- PyTorch -----------------------------------------------------------------------------------------------------------------


def captured(run: Runner, device: torch.device) -> Runner:
    """The same as a CUDA graph: one launch for all kernels."""
    if device.type == "cpu":
        return run
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(CAPTURE_WARM_RUNS):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = run()

    def replay() -> torch.Tensor:
        graph.replay()
        return answer

    return replay


def eager(module: torch.nn.Module, batch: torch.Tensor) -> Runner:
    def run() -> torch.Tensor:
        with torch.inference_mode():
            return module(batch)

    return run


def eager_graph(module: torch.nn.Module, batch: torch.Tensor) -> Runner:
    return captured(eager(module, batch), batch.device)


def frozen_graph(module: torch.nn.Module, batch: torch.Tensor) -> Runner:
    """Batch norms folded into convolutions; on a GPU relu and sums run in cuDNN's convolutions where it can."""
    with torch.no_grad():
        script = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(module, batch)))
    return captured(eager(script, batch), batch.device)


def compiled(module: torch.nn.Module, batch: torch.Tensor, mode: str) -> Runner:
    network = torch.compile(module, mode=mode, dynamic=False)

    def run() -> torch.Tensor:
        with torch.no_grad():
            return network(batch)

    return run


ENGINES: dict[str, Callable[[torch.nn.Module, torch.Tensor], Runner]] = {
    "pytorch-graph": eager_graph,
    "pytorch": eager,
    "pytorch-frozen": frozen_graph,
}


def training_step(model: str, batch: int, size: int, precision: str, device: torch.device) -> Callable[[], None]:
    """Forward, loss, backward and SGD with momentum on a batch that is always the same; 16-bit precisions by autocast."""
    net = timm.create_model(model).to(device, memory_format=torch.channels_last).train()
    images = torch.randn(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
    labels = torch.arange(batch, device=device) % 1000
    optimiser = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, TYPES[precision], enabled=TYPES[precision] != torch.float32):
            loss = torch.nn.functional.cross_entropy(net(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()

    return step


def slot(run: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """Milliseconds of each of the runs of one engine in one round; how many fit is told by one run after another that warms up."""
    run()
    wait(device)
    start = time.perf_counter()
    run()
    wait(device)
    count = min(max(int(seconds / (time.perf_counter() - start)), SLOT_RUNS_MIN), SLOT_RUNS_MAX)
    if device.type == "cpu":
        times = []
        for _ in range(count):
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
        return times
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) for begin, end in itertools.pairwise(events)]


# ---- dla ---------------------------------------------------------------------------------------------------------------------


class DlaError(Exception):
    pass


def dla(command: list[str], timeout: float) -> str:
    """What the command prints; DlaError with its last words where it fails."""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True, timeout=timeout).stdout
    except subprocess.CalledProcessError as error:
        words = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        raise DlaError(words[-1]) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DlaError(str(error)) from error


def dla_bench(command: list[str], timeout: float) -> list[dict]:
    try:
        return json.loads(dla([*command, "--json"], timeout))
    except json.JSONDecodeError as error:
        raise DlaError(f"{' '.join(command)}: no JSON: {error}") from error

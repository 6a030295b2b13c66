"""Training steps per second, dla beside PyTorch (float32, channels last), interleaved: run.sh --train.

A step is forward, loss, backward and SGD with momentum and weight decay on a batch that is always the same; reading photographs
is not part of it. Each round measures dla (`dla bench --train`), then PyTorch; the medians over the rounds are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import time
from typing import Callable

import timm
import torch


def pytorch_step(model: str, batch: int, size: int, compiled: bool) -> Callable[[], None]:
    net = timm.create_model(model).to(memory_format=torch.channels_last).train()
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 1000
    optimiser = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4)
    forward = torch.compile(net) if compiled else net

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(forward(images), labels).backward()
        optimiser.step()

    step()   # compiles, allocates
    return step


def time_step(step: Callable[[], None], runs: int) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def time_dla(model: str, arguments: argparse.Namespace) -> float:
    command = [os.environ["DLA_BINARY"], "bench", model, "--train", "--batch", str(arguments.batch), "--size", str(arguments.size),
               "--threads", str(arguments.threads), "--seconds", "2", "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return float(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout)[0]["median_ms"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="run.sh --train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["dla46_c", "dla34"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=2, help="steps of PyTorch in a round")
    parser.add_argument("--compiled", action="store_true", help="through torch.compile")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    allocator = pathlib.Path(os.environ.get("LD_PRELOAD") or "glibc").name
    title = f"PyTorch {torch.__version__}{' compiled' if arguments.compiled else ''} ({allocator})"
    for model in arguments.models:
        step = pytorch_step(model, arguments.batch, arguments.size, arguments.compiled)
        ours, theirs = [], []
        for _ in range(arguments.rounds):
            ours.append(time_dla(model, arguments))
            theirs.append(time_step(step, arguments.runs))
        speeds = [1e3 * arguments.batch / statistics.median(times) for times in (ours, theirs)]
        print(f"{model:15s} batch {arguments.batch}, {arguments.size}x{arguments.size}, {arguments.threads} threads, images/s: "
              f"dla {speeds[0]:.1f}, {title} {speeds[1]:.1f}; {speeds[0] / speeds[1]:.2f} times as fast", flush=True)


if __name__ == "__main__":
    main()

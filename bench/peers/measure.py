"""One setting (threads, batch): every engine on every network, interleaved. compare.py starts it, once a setting, because most
engines take their number of threads once and for all. Prints a line of JSON for each network.

A round runs each engine for a fraction of a second, the order turning from round to round, so that whatever disturbs the
machine hits all of them alike. An engine's time is the median over the rounds of each round's median.
"""

from __future__ import annotations

import argparse
import gc
import json
import pathlib
import statistics
import sys
import time

import numpy as np
import torch
from engines import ENGINES, Runner
from networks import Network

TOLERANCE = 1e-3   # of the largest logit, against PyTorch's float32 answer
SLOT_SECONDS, SLOT_RUNS_MIN, SLOT_RUNS_MAX = 0.4, 3, 60


def prepare(network: Network, names: list[str], threads: int) -> dict[str, Runner]:
    """The engines that run the network and give the right answer; what is wrong with the others goes to stderr."""
    runners = {}
    for name in names:
        try:
            runner = ENGINES[name](network, threads)
            difference = float(np.abs(runner() - network.answer).max() / np.abs(network.answer).max())
        except Exception as error:  # noqa: BLE001: an engine's own trouble must not end the comparison
            print(f"{network.name}: {name} left out: {type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)
            continue
        if not difference <= TOLERANCE:
            print(f"{network.name}: {name} left out: off by {difference:.1e} of the largest logit", file=sys.stderr)
            continue
        runners[name] = runner
    return runners


def slot(runner: Runner) -> list[float]:
    """Milliseconds of the runs of one engine in one round; the first, which wakes its threads, does not count."""
    runner()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < SLOT_RUNS_MIN or (time.perf_counter() - begin < SLOT_SECONDS and len(times) < SLOT_RUNS_MAX):
        start = time.perf_counter()
        runner()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def measure(runners: dict[str, Runner], rounds: int) -> dict[str, dict[str, float]]:
    times: dict[str, list[list[float]]] = {name: [] for name in runners}
    names = list(runners)
    for index in range(rounds):
        turn = index % len(names)
        for name in names[turn:] + names[:turn]:
            times[name].append(slot(runners[name]))
    result = {}
    for name, slots in times.items():
        medians = [statistics.median(runs) for runs in slots]
        median = statistics.median(medians)
        result[name] = {"median_ms": median, "min_ms": min(min(runs) for runs in slots), "spread": (max(medians) - min(medians)) / median}
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--engines", required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for model in arguments.models:
        network = Network(model, arguments.work, arguments.batch)
        runners = prepare(network, arguments.engines.split(","), arguments.threads)
        print(json.dumps({"model": model, "engines": measure(runners, arguments.rounds) if runners else {}}), flush=True)
        del network, runners
        torch.compiler.reset()
        gc.collect()


if __name__ == "__main__":
    main()

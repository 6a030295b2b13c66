"""dla beside PyTorch on a GPU, with the same weights; answers are compared before anything is timed.

Does what the options name, in this order, or the sweep alone where they name nothing:

    --check     the logits of `dla run`, and of PyTorch on the GPU, against PyTorch's in float32 on the CPU
    --sweep     times of a pass: `dla bench`, PyTorch engine by engine in turns, `dla bench` again
    --compile   the same of torch.compile, which takes minutes: it compiles and tunes in several processes at once, which fill a
                cache, and is timed afterwards, one network after the other, out of that cache
    --train     times of a training step: `dla bench --train`, PyTorch, `dla bench --train` again

Time on a GPU is dear: what matters most comes first, nothing new starts when --budget is used, and each result is a
line of JSON in --output as soon as there is one. The file is added to; of what was measured again the last call counts.
gpu_table.py makes tables of it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import copy
import gc
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import pathlib
import platform
import statistics
import sys
import time
from typing import Callable, Iterable

import numpy as np
import torch

import gpu_table
from gpu_engines import (ENGINES, TOLERANCE, TYPES, DlaError, Runner, allow_tf32, compiled, difference, dla, dla_bench, slot,
                         training_step)
from networks import Network

HERE = pathlib.Path(__file__).resolve().parent

# The most important first: time may end before the list does.
MODELS = ("dla34", "dla102x2", "dla60x", "dla46_c", "dla102", "dla60_res2net", "dla169", "dla60", "dla46x_c", "dla60x_c", "dla102x",
          "dla60_res2next")
TRAINED_MODELS = ("dla34", "dla60x")
TRAINED_SIZES = ((256, 224), (64, 128))   # batch, size

IMAGES = 8         # different ones; larger batches repeat them
MAKERS = 4         # networks made, and answers of dla asked for, at once
DLA_SECONDS = 60   # for a call of dla that measures one thing
BENCH_SECONDS = 5  # for a call of dla beside what it measures, when its kernels have been chosen before
COMPILED_SECONDS = 10   # for tracing, loading and timing what was compiled: kept free of the budget for each

Cell = tuple[str, int, str]   # network, batch, precision


class Session:
    """What all phases share: the options, the networks, the end of time, the file of results."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.begin = time.monotonic()
        self.run = time.time()   # later calls replace what earlier ones found out
        self.device = torch.device(arguments.device)
        self.gpu = torch.cuda.get_device_name() if self.device.type == "cuda" else platform.machine()
        self.output = arguments.output.open("a", encoding="utf-8")
        self.output.write("\n")   # an earlier call may have ended within a line
        self.complete = True
        versions = f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, timm {importlib.metadata.version('timm')}"
        self.write({"phase": "machine", "text": f"{self.gpu}; {versions}"})
        names = list(dict.fromkeys(arguments.models + arguments.compile))
        with concurrent.futures.ThreadPoolExecutor(MAKERS, initializer=torch.set_num_threads, initargs=(threads_each(MAKERS),)) as pool:
            self.networks = dict(zip(names, pool.map(lambda name: Network(name, arguments.work, IMAGES), names)))
        self.say(f"{self.gpu}; {versions}; {len(names)} networks made")

    def left(self) -> float:
        return self.arguments.budget - (time.monotonic() - self.begin)

    def write(self, record: dict) -> None:
        self.output.write(json.dumps(record | {"gpu": self.gpu, "run": self.run}) + "\n")
        self.output.flush()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.begin:6.1f} s  {text}", flush=True)

    def miss(self, text: str) -> None:
        """Says what is missing in the results."""
        self.complete = False
        self.say(f"left out: {text}")

    def dla(self, command: str) -> list[str]:
        return [str(self.arguments.dla), command]

    def on_device(self, precision: str) -> list[str]:
        return ["--device", self.device.type, "--precision", precision]


def threads_each(processes: int) -> int:
    return max(1, len(os.sched_getaffinity(0)) // processes)


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def moved(network: Network, batch: int, precision: str, device: torch.device) -> tuple[torch.nn.Module, torch.Tensor]:
    """The network and so many images on the device, in the precision and channels last."""
    module = copy.deepcopy(network.module).to(device, TYPES[precision], memory_format=torch.channels_last)
    images = network.input.repeat(-(-batch // IMAGES), 1, 1, 1)[:batch]
    return module, images.to(device, TYPES[precision]).to(memory_format=torch.channels_last)


def error_of(answer: torch.Tensor, network: Network) -> float:
    wanted = torch.from_numpy(network.answer)
    return difference(answer, wanted.repeat(-(-answer.shape[0] // IMAGES), 1)[:answer.shape[0]])


# ---- answers -----------------------------------------------------------------------------------------------------------------


def answer_of_dla(session: Session, network: Network, precision: str) -> torch.Tensor:
    stem = session.arguments.work / f"{network.name}_{precision}"
    batch, logits = stem.with_suffix(".in.npy"), stem.with_suffix(".out.npy")
    np.save(batch, network.input.numpy())
    dla([*session.dla("run"), network.name, "--weights", str(network.weights), "--input", str(batch), "--output", str(logits),
         *session.on_device(precision)], DLA_SECONDS)
    return torch.from_numpy(np.load(logits).reshape(IMAGES, -1))


def check(session: Session) -> None:
    torch.backends.cudnn.benchmark = False   # measuring kernels takes longer than running them once
    pairs = list(itertools.product(map(session.networks.__getitem__, session.arguments.models), session.arguments.precision))
    with concurrent.futures.ThreadPoolExecutor(MAKERS) as pool:
        answers = [pool.submit(answer_of_dla, session, network, precision) for network, precision in pairs]
        for (network, precision), future in zip(pairs, answers):
            allow_tf32(precision == "tf32")
            errors = {}
            module, batch = moved(network, IMAGES, precision, session.device)
            with torch.inference_mode():
                errors["pytorch"] = error_of(module(batch), network)
            try:
                errors["dla"] = error_of(future.result(), network)
            except DlaError as error:
                session.miss(f"check of {network.name} {precision}: {error}")
            for engine, off in errors.items():
                session.write({"phase": "check", "engine": engine, "model": network.name, "precision": precision, "error": off})
            wrong = [engine for engine, off in errors.items() if not off <= TOLERANCE[precision]]
            session.complete = session.complete and not wrong
            session.say(f"check {network.name:15s} {precision:8s} " + "  ".join(f"{engine} {off:.1e}" for engine, off in errors.items()) +
                        "".join(f"  {engine} IS WRONG" for engine in wrong))
    torch.backends.cudnn.benchmark = True


# ---- times of a pass ---------------------------------------------------------------------------------------------------------


def time_dla(session: Session, models: Iterable[str], batches: Iterable[int], precision: str) -> None:
    """`dla bench` once for all, or, where that fails, network by network."""
    models, batches = list(models), list(batches)
    command = [*session.dla("bench"), *models, *session.on_device(precision), "--batch", ",".join(map(str, batches)),
               "--seconds", str(session.arguments.dla_seconds)]
    try:
        results = dla_bench(command, max(session.left(), DLA_SECONDS))
    except DlaError as error:
        if len(models) == 1:
            session.miss(f"dla {models[0]} {precision}: {error}")
        else:
            session.say(f"dla bench: {error}; now network by network")
            for model in models:
                time_dla(session, [model], batches, precision)
        return
    for result in results:
        session.write({"phase": "pass", "engine": "dla", "model": result["model"], "batch": result["batch"], "precision": precision,
                       "median_ms": result["median_ms"], "min_ms": result["min_ms"]})


def prepare(session: Session, cell: Cell, engines: dict[str, Callable[[torch.nn.Module, torch.Tensor], Runner]]) -> dict[str, Runner]:
    """The engines that run the network and give the right answer."""
    model, count, precision = cell
    network, runners = session.networks[model], {}
    allow_tf32(precision == "tf32")
    module, batch = moved(network, count, precision, session.device)
    for name, make in engines.items():
        try:
            runner = make(module, batch)
            off = error_of(runner(), network)
        except Exception as error:  # noqa: BLE001: an engine's own trouble must not end the comparison
            session.miss(f"{name} {model} batch {count} {precision}: {first_line(error)}")
            continue
        if not off <= TOLERANCE[precision]:
            session.miss(f"{name} {model} batch {count} {precision}: off by {off:.1e} of the largest logit")
            continue
        runners[name] = runner
    return runners


def time_slot(session: Session, cell: Cell, engine: str, runner: Runner) -> None:
    times = slot(runner, session.device, session.arguments.slot_seconds)
    session.write({"phase": "pass", "engine": engine, "model": cell[0], "batch": cell[1], "precision": cell[2],
                   "median_ms": statistics.median(times), "min_ms": min(times)})


def time_cell(session: Session, cell: Cell, engines: dict[str, Callable[[torch.nn.Module, torch.Tensor], Runner]], dla_too: bool) -> None:
    runners = prepare(session, cell, engines)
    names = list(runners)
    for index in range(session.arguments.rounds):
        if dla_too:
            time_dla(session, [cell[0]], [cell[1]], cell[2])
        turn = index % len(names) if names else 0
        for name in names[turn:] + names[:turn]:
            time_slot(session, cell, name, runners[name])
    runners.clear()
    gc.collect()
    if session.device.type == "cuda":
        torch.cuda.empty_cache()
    session.say(gpu_table.line(gpu_table.read([session.arguments.output]), session.gpu, cell))


def cells_of(arguments: argparse.Namespace, models: Iterable[str]) -> list[Cell]:
    """Batch by batch: of a list that is cut off every network has the first."""
    return [(model, batch, precision) for batch, model, precision in itertools.product(arguments.batch, models, arguments.precision)]


def sweep(session: Session) -> None:
    arguments = session.arguments
    in_turns = arguments.interleave == "cell"
    done: list[Cell] = []
    cells = cells_of(arguments, arguments.models)
    second_sweep = 0.0 if in_turns else BENCH_SECONDS * len(arguments.precision) + 2.0 * arguments.dla_seconds * len(cells)
    if not in_turns:
        for precision in arguments.precision:
            time_dla(session, arguments.models, arguments.batch, precision)
        session.say("dla's first sweep is done")
    for cell in cells:
        if session.left() < second_sweep:
            session.miss(f"{cell} and what follows: the budget is used")
            break
        time_cell(session, cell, {name: ENGINES[name] for name in arguments.engines}, in_turns)
        done.append(cell)
    for precision in [] if in_turns else arguments.precision:
        models = list(dict.fromkeys(cell[0] for cell in done if cell[2] == precision))
        if models:
            time_dla(session, models, arguments.batch, precision)


# ---- torch.compile -----------------------------------------------------------------------------------------------------------


def warm(task: tuple[Cell, str, pathlib.Path, str, int]) -> tuple[Cell, float, str]:
    """Fills the cache, in a process of its own: the cell, the seconds that it took, what went wrong or nothing."""
    cell, device, work, mode, workers = task
    begin = time.monotonic()
    torch.set_num_threads(threads_each(workers))
    torch.backends.cudnn.benchmark = True
    allow_tf32(cell[2] == "tf32")
    try:
        compiled(*moved(Network(cell[0], work, IMAGES), cell[1], cell[2], torch.device(device)), mode)()
        problem = ""
    except Exception as error:  # noqa: BLE001: the compiler's own trouble must not end the comparison
        problem = first_line(error)
    torch.compiler.reset()
    return cell, time.monotonic() - begin, problem


def compile_and_time(session: Session) -> None:
    arguments = session.arguments
    cells = cells_of(arguments, arguments.compile)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(arguments.work / "inductor")
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = str(threads_each(arguments.compile_workers))
    tasks = [(cell, arguments.device, arguments.work, arguments.compile_mode, arguments.compile_workers) for cell in cells]
    warmed: list[Cell] = []
    with multiprocessing.get_context("spawn").Pool(min(arguments.compile_workers, len(tasks))) as pool:   # ends them when it is left
        finished = pool.imap_unordered(warm, tasks)
        for index in range(len(cells)):
            try:
                cell, seconds, problem = finished.next(timeout=max(session.left() - COMPILED_SECONDS * (len(warmed) + 1), 0.0))
            except multiprocessing.TimeoutError:
                session.miss(f"torch.compile: {len(cells) - index} of {len(cells)} cells were not compiled within the budget")
                break
            session.write({"phase": "compile", "model": cell[0], "batch": cell[1], "precision": cell[2], "seconds": seconds})
            if problem:
                session.miss(f"torch.compile {cell}: {problem}")
            else:
                session.say(f"compiled {cell} in {seconds:.1f} s")
                warmed.append(cell)
    for cell in sorted(warmed, key=cells.index):
        if session.left() <= 0:
            session.miss(f"torch.compile {cell} and what follows: the budget is used")
            break
        time_cell(session, cell, {"pytorch-compiled": lambda module, batch: compiled(module, batch, arguments.compile_mode)}, False)
        torch.compiler.reset()


# ---- training ----------------------------------------------------------------------------------------------------------------


def train(session: Session) -> None:
    arguments = session.arguments
    for model, (batch, size), precision in itertools.product(TRAINED_MODELS, TRAINED_SIZES, arguments.precision):
        where = f"training {model} batch {batch} {size}x{size} {precision}"
        if session.left() <= 0:
            session.miss(f"{where} and what follows: the budget is used")
            break
        times: dict[str, list[float]] = {"dla": [], "pytorch": []}
        command = [*session.dla("bench"), model, "--train", "--batch", str(batch), "--size", str(size), *session.on_device(precision),
                   "--seconds", str(arguments.dla_seconds)]

        def time_dla_step() -> None:
            try:
                times["dla"].append(dla_bench(command, DLA_SECONDS)[0]["median_ms"])
            except DlaError as error:
                session.miss(f"dla {where}: {error}")

        time_dla_step()
        allow_tf32(precision == "tf32")
        try:
            times["pytorch"].append(statistics.median(slot(training_step(model, batch, size, precision, session.device), session.device, 1.0)))
        except Exception as error:  # noqa: BLE001: see prepare
            session.miss(f"pytorch {where}: {first_line(error)}")
        if times["dla"]:
            time_dla_step()
        for engine, found in times.items():
            for median in found:
                session.write({"phase": "train", "engine": engine, "model": model, "batch": batch, "size": size, "precision": precision,
                               "median_ms": median})
        session.say(f"{where}, images/s: " + "  ".join(f"{engine} {' '.join(f'{1e3 * batch / ms:.0f}' for ms in found)}"
                                                       for engine, found in times.items() if found))


# ---- the command line --------------------------------------------------------------------------------------------------------


def names(known: Iterable[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        unknown = [name for name in text.split(",") if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"no '{unknown[0]}'; there are {', '.join(known)}")
        return text.split(",")

    return parse


def main() -> int:
    parser = argparse.ArgumentParser(prog="run.sh --gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="networks of --check and --sweep (default: all twelve, the most important first)")
    parser.add_argument("--check", action="store_true", help="compare answers")
    parser.add_argument("--sweep", action="store_true", help="time passes of dla and of --engines")
    parser.add_argument("--compile", type=names(MODELS), default=[], metavar="LIST", help="compile and time these networks")
    parser.add_argument("--train", action="store_true", help=f"time training steps of {' and '.join(TRAINED_MODELS)}")
    parser.add_argument("--batch", type=lambda text: [int(number) for number in text.split(",")], default=[1, 8, 4, 256],
                        metavar="LIST", help="images in one pass (default 1,8,4,256)")
    parser.add_argument("--precision", type=names(TYPES), default=["float32", "float16"], metavar="LIST",
                        help=f"of {', '.join(TYPES)} (default float32,float16)")
    parser.add_argument("--engines", type=names(ENGINES), default=["pytorch-graph", "pytorch"], metavar="LIST",
                        help=f"of {', '.join(ENGINES)} (default pytorch-graph,pytorch)")
    parser.add_argument("--interleave", choices=("sweep", "cell"), default="sweep",
                        help="when dla has its turns: sweep: before all others and after them; cell: in every round (default sweep)")
    parser.add_argument("--budget", type=float, default=240.0, metavar="SECONDS", help="start nothing new after that (default 240)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every engine (default 3)")
    parser.add_argument("--slot-seconds", type=float, default=0.1, help="length of a turn of PyTorch (default 0.1)")
    parser.add_argument("--dla-seconds", type=float, default=0.2, help="length of a measurement of dla (default 0.2)")
    parser.add_argument("--compile-mode", choices=("max-autotune", "reduce-overhead"), default="max-autotune",
                        help="how torch.compile tries: among kernels of its own too, or only by fusing (default max-autotune)")
    parser.add_argument("--compile-workers", type=int, default=8, help="processes that compile (default 8)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try this script without a GPU (default cuda)")
    parser.add_argument("--dla", type=pathlib.Path, default=os.environ.get("DLA_BINARY", HERE.parents[1] / "build" / "dla"),
                        help="the command to measure (default: of the build folder)")
    parser.add_argument("--work", type=pathlib.Path, default=HERE.parents[1] / "build" / "peers",
                        help="folder for weights and torch.compile's cache (default build/peers)")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("gpu.jsonl"), help="file that results are added to (default gpu.jsonl)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.models if name not in MODELS]
    if unknown:
        parser.error(f"no network '{unknown[0]}'; there are {', '.join(MODELS)}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here")
    arguments.work, arguments.dla = arguments.work.resolve(), pathlib.Path(arguments.dla).resolve()   # others run elsewhere
    arguments.sweep = arguments.sweep or not (arguments.check or arguments.compile or arguments.train)
    arguments.models = (arguments.models or list(MODELS)) if arguments.check or arguments.sweep else []
    torch.backends.cudnn.benchmark = True
    session = Session(arguments)
    for wanted, phase in ((arguments.check, check), (arguments.sweep, sweep), (arguments.compile, compile_and_time), (arguments.train, train)):
        if wanted:
            phase(session)
    print(gpu_table.text(gpu_table.read([arguments.output])))
    return 0 if session.complete else 1


if __name__ == "__main__":
    sys.exit(main())

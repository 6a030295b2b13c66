"""dla beside other engines, on this machine, in float32 with the same weights; answers are compared before anything is timed.

The results are kept in WORK/results.json, setting by setting and network by network, so that a comparison can be made in
parts; --write puts all of them as tables into docs/performance.md, between the markers that name this script.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys

import table

HERE = pathlib.Path(__file__).resolve().parent


def names_of_engines() -> list[str]:
    return list(table.TITLES)


def key(isa: str, threads: int, batch: int) -> str:
    return f"{isa} threads {threads} batch {batch}"


def environment(threads: int, isa: str) -> dict[str, str]:
    changed = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if isa == "avx2":
        changed |= {"DLA_ISA": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    return os.environ | changed


def measure(arguments: argparse.Namespace, threads: int, batch: int, engines: list[str], results: dict) -> bool:
    """Adds to results what measure.py finds out; false where it failed or an engine was left out."""
    command = [sys.executable, str(HERE / "measure.py"), "--threads", str(threads), "--batch", str(batch), "--rounds", str(arguments.rounds),
               "--engines", ",".join(engines), "--work", str(arguments.work), *arguments.models]
    complete = True
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(threads, arguments.isa)) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith('{"model"'):   # engines print what they like
                continue
            found = json.loads(line)
            setting = results["settings"].setdefault(key(arguments.isa, threads, batch), {})
            setting.setdefault(found["model"], {}).update(found["engines"])
            complete = complete and set(engines) <= set(found["engines"])
            print(table.line(arguments.isa, threads, batch, found["model"], found["engines"]), flush=True)
            save(arguments, results)
    return process.returncode == 0 and complete


def load(arguments: argparse.Namespace) -> dict:
    path = arguments.work / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {"settings": {}}
    results["machine"] = table.describe_machine()
    return results


def save(arguments: argparse.Namespace, results: dict) -> None:
    path = arguments.work / "results.json"
    path.with_suffix(".new").write_text(json.dumps(results, indent=1))
    path.with_suffix(".new").replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(table.MODELS), help="networks (default: all twelve; dla34up-2 and -4 are dense ones)")
    parser.add_argument("--threads", default="2,1", help="list of numbers of threads (default 2,1)")
    parser.add_argument("--batch", default="1", help="list of batches (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, in each of which every engine has its turn (default 5)")
    parser.add_argument("--engines", default=None, help=f"list of engines (default: all: {','.join(names_of_engines())})")
    parser.add_argument("--isa", choices=("best", "avx2"), default="best",
                        help="avx2: hold engines to AVX2; those that cannot be held are left out (default best: what the machine has)")
    parser.add_argument("--write", action="store_true", help="write all results so far as tables into docs/performance.md")
    parser.add_argument("--no-measure", action="store_true", help="measure nothing; with --write: only the tables")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(os.environ["XDG_CACHE_HOME"]).parent,
                        help="folder for weights, converted networks and results (default: peers/ in the build folder)")
    arguments = parser.parse_args()
    engines = arguments.engines.split(",") if arguments.engines else names_of_engines()
    if arguments.isa == "avx2":
        engines = [engine for engine in engines if engine in table.HELD_TO_AVX2]
    unknown = [name for name in engines if name not in table.TITLES] + [name for name in arguments.models if name not in table.MODELS + table.DENSE_MODELS]
    if unknown:
        parser.error(f"no engine or network '{unknown[0]}'; engines: {', '.join(names_of_engines())}; networks: {', '.join(table.MODELS + table.DENSE_MODELS)}")
    arguments.work.mkdir(parents=True, exist_ok=True)
    results, complete = load(arguments), True
    for batch in [] if arguments.no_measure else [int(number) for number in arguments.batch.split(",")]:
        for threads in [int(number) for number in arguments.threads.split(",")]:
            complete = measure(arguments, threads, batch, engines, results) and complete
    if arguments.write:
        table.write(results, HERE.parents[1] / "docs" / "performance.md")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())

"""What gpu.py found out, as text, and as tables in a Markdown file between the markers that name this script."""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
from typing import Iterable

import table

# Engines in the order of the columns, and what they are called there.
TITLES = {
    "dla": "dla",
    "pytorch-graph": "PyTorch, CUDA graph",
    "pytorch": "PyTorch",
    "pytorch-frozen": "PyTorch frozen, CUDA graph",
    "pytorch-compiled": "PyTorch compiled",
}
PRECISIONS = ("float32", "tf32", "float16", "bfloat16")

# Milliseconds of a V100 in float32, batch 1, 4 and 8, as PaddleClas published them.
V100_BATCHES = (1, 4, 8)
V100 = {
    "dla34": (1.83, 3.37, 5.98),
    "dla46_c": (1.06, 2.08, 3.23),
    "dla60": (2.78, 5.36, 8.29),
    "dla60x": (5.98, 9.24, 12.52),
    "dla60x_c": (1.79, 3.68, 5.19),
    "dla102": (4.95, 8.08, 12.40),
    "dla102x": (11.12, 15.60, 20.37),
    "dla102x2": (19.58, 23.97, 31.37),
    "dla169": (7.70, 12.25, 18.90),
}

BATCH_OF_THROUGHPUT = 32   # from here on images/s say more than ms

BEGIN = "<!-- begin: bench/peers/gpu_table.py -->"
END = "<!-- end: bench/peers/gpu_table.py -->"

Times = dict[str, dict[str, float]]   # engine: {"median_ms": ...}, as table.py has them


def read(paths: Iterable[pathlib.Path]) -> list[dict]:
    """All records; lines that were cut off do not count."""
    lines = [line for path in paths for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.endswith("}")]


def _select(records: list[dict], **wanted: object) -> list[dict]:
    return [record for record in records if all(record.get(key) == value for key, value in wanted.items())]


def _latest(records: list[dict]) -> dict[str, list[dict]]:
    """The records of each engine that its last run gave."""
    last: dict[str, float] = {}
    for record in records:
        last[record["engine"]] = max(record["run"], last.get(record["engine"], 0.0))
    return {engine: _select(records, engine=engine, run=run) for engine, run in last.items()}


def times(records: list[dict], **cell: object) -> Times:
    """Each engine's median over its turns, and how far apart these were as a share of it."""
    found = {}
    for engine, turns in _latest(_select(records, **cell)).items():
        medians = [turn["median_ms"] for turn in turns]
        median = statistics.median(medians)
        found[engine] = {"median_ms": median, "spread": (max(medians) - min(medians)) / median, "first": medians[0], "last": medians[-1]}
    return found


def _ratio(found: Times) -> str:
    best = table.fastest_peer(found)
    return f"{found[best]['median_ms'] / found['dla']['median_ms']:.2f}" if best and "dla" in found else "–"


def _milliseconds(ms: float) -> str:
    return f"{ms:.3f}" if ms < 1 else f"{ms:.2f}" if ms < 10 else f"{ms:.1f}"


# ---- text --------------------------------------------------------------------------------------------------------------------


def line(records: list[dict], gpu: str, cell: tuple[str, int, str]) -> str:
    """A cell in one line; of dla the first and the last time, which a disturbed machine sets apart."""
    model, batch, precision = cell
    found = times(records, phase="pass", gpu=gpu, model=model, batch=batch, precision=precision)
    parts = [f"{model:15s} b{batch:<4d}{precision:9s}"]
    for engine in TITLES:
        if engine == "dla" and engine in found:
            parts.append(f"dla {_milliseconds(found[engine]['first'])}/{_milliseconds(found[engine]['last'])}")
        elif engine in found:
            parts.append(f"{engine} {_milliseconds(found[engine]['median_ms'])}")
    best = table.fastest_peer(found)
    if best and "dla" in found:
        parts.append(f"dla {_ratio(found)}x {best}")
    return "  ".join(parts)


def _order(record: dict) -> tuple:
    return table.MODELS.index(record["model"]), PRECISIONS.index(record["precision"]), record["batch"]


def text(records: list[dict]) -> str:
    """Milliseconds of every cell; for dla the first and the last of its turns."""
    passes = sorted(_select(records, phase="pass"), key=_order)
    cells = dict.fromkeys((record["gpu"], (record["model"], record["batch"], record["precision"])) for record in passes)
    return "\n".join(line(records, gpu, cell) for gpu, cell in cells)


# ---- Markdown ----------------------------------------------------------------------------------------------------------------


def _cell(found: Times, engine: str, batch: int, best: str | None) -> str:
    if engine not in found:
        return "–"
    ms = found[engine]["median_ms"]
    shown = f"{1e3 * batch / ms:.0f}" if batch >= BATCH_OF_THROUGHPUT else _milliseconds(ms)
    return f"**{shown}**" if engine == best else shown


def _rows(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]] + [""]


def _passes(records: list[dict], batch: int, precision: str) -> list[str]:
    models = {model: times(records, model=model) for model in table.MODELS if _select(records, model=model)}
    engines = [engine for engine in TITLES if any(engine in found for found in models.values())]
    older = precision == "float32" and batch in V100_BATCHES
    head = ["network", *(TITLES[engine] for engine in engines), "dla, times as fast as the best other"] + ["V100, published"] * older
    rows = []
    for model, found in models.items():
        best = table.fastest_peer(found)
        row = [model, *(_cell(found, engine, batch, best) for engine in engines), _ratio(found)]
        if older:
            row.append(f"{V100[model][V100_BATCHES.index(batch)]:.2f}" if model in V100 else "–")
        rows.append(row)
    return [f"Batch {batch}, {precision}; {'images/s' if batch >= BATCH_OF_THROUGHPUT else 'ms'}:", "", *_rows(head, rows)]


def _answers(records: list[dict]) -> list[str]:
    precisions = [precision for precision in PRECISIONS if _select(records, precision=precision)]
    rows = []
    for model in [model for model in table.MODELS if _select(records, model=model)]:
        row = [model]
        for precision in precisions:
            latest = _latest(_select(records, model=model, precision=precision))
            row += [f"{latest[engine][-1]['error']:.1e}" if engine in latest else "–" for engine in ("dla", "pytorch")]
        rows.append(row)
    head = ["network", *(f"{title}, {precision}" for precision in precisions for title in ("dla", "PyTorch"))]
    return ["Largest error of the logits of eight images as a share of the largest logit, against PyTorch's in float32 on the CPU:", "",
            *_rows(head, rows)]


def _training(records: list[dict]) -> list[str]:
    settings = dict.fromkeys((record["model"], record["batch"], record["size"], record["precision"]) for record in records)
    rows = []
    for model, batch, size, precision in settings:
        found = times(records, model=model, batch=batch, size=size, precision=precision)
        speeds = [f"{1e3 * batch / found[engine]['median_ms']:.0f}" if engine in found else "–" for engine in ("dla", "pytorch")]
        rows.append([model, f"{batch} of {size}x{size}", precision, *speeds, _ratio(found)])
    return ["Training steps; images/s:", "", *_rows(["network", "batch", "precision", "dla", "PyTorch", "dla, times as fast"], rows)]


def markdown(records: list[dict]) -> list[str]:
    lines = []
    for gpu in dict.fromkeys(record["gpu"] for record in records):
        of_gpu = _select(records, gpu=gpu)
        passes, checks, trainings = (_select(of_gpu, phase=phase) for phase in ("pass", "check", "train"))
        lines += [f"{_select(of_gpu, phase='machine')[-1]['text']}. Medians over turns; bold: the fastest of the others.", ""]
        for precision in PRECISIONS:
            for batch in sorted({record["batch"] for record in _select(passes, precision=precision)}):
                lines += _passes(_select(passes, precision=precision, batch=batch), batch, precision)
        lines += _answers(checks) if checks else []
        lines += _training(trainings) if trainings else []
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=pathlib.Path, help="files that gpu.py wrote")
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE.md", help="put the tables between its markers instead of printing them")
    arguments = parser.parse_args()
    records = read(arguments.results)
    if arguments.write:
        table.replace(arguments.write, BEGIN, END, markdown(records))
    else:
        print("\n".join(markdown(records)))


if __name__ == "__main__":
    main()

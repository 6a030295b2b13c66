"""What a comparison found, as text: lines while it runs, tables in a Markdown file."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform

MODELS = ("dla34", "dla46_c", "dla46x_c", "dla60x_c", "dla60", "dla60x", "dla102", "dla102x", "dla102x2", "dla169", "dla60_res2net",
          "dla60_res2next")

DENSE_MODELS = ("dla34up-2", "dla34up-4")   # down ratio 2 and 4, see networks.py

# Engines in the order of the columns, and what they are called there.
TITLES = {
    "dla": "dla",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "pytorch-compiled": "PyTorch compiled",
    "pytorch": "PyTorch",
    "ncnn": "ncnn",
}
HELD_TO_AVX2 = ("dla", "openvino", "pytorch-compiled", "pytorch")   # by environment variables; the others choose for themselves
PACKAGES = ("onnxruntime", "openvino", "torch", "timm", "ncnn")

BEGIN = "<!-- begin: bench/peers/run.sh --write -->"
END = "<!-- end: bench/peers/run.sh --write -->"


def describe_machine() -> str:
    facts: dict[str, str] = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():   # the first processor's
        name, _, text = line.partition(":")
        facts.setdefault(name.strip(), text.strip())
    flags = facts.get("flags", "").split()
    vectors = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else platform.machine()
    model = f"{facts.get('model name', 'unknown processor')} (family {facts.get('cpu family', '?')}, model {facts.get('model', '?')})"
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES)
    return f"{model}, {vectors}, {len(os.sched_getaffinity(0))} processors; {versions}"


def fastest_peer(engines: dict) -> str | None:
    peers = [name for name in engines if name != "dla"]
    return min(peers, key=lambda name: engines[name]["median_ms"]) if peers else None


def line(isa: str, threads: int, batch: int, model: str, engines: dict) -> str:
    times = "  ".join(f"{name} {engines[name]['median_ms']:.2f}" for name in TITLES if name in engines)
    best = fastest_peer(engines)
    ratio = f"  dla {engines[best]['median_ms'] / engines['dla']['median_ms']:.2f}x {best}" if best and "dla" in engines else ""
    return f"{isa} t{threads} b{batch} {model:15s} {times}{ratio}"


def _cell(engines: dict, name: str, batch: int, best: str | None) -> str:
    if name not in engines:
        return "–"
    ms = engines[name]["median_ms"]
    text = f"{1e3 * batch / ms:.1f}" if batch > 1 else f"{ms:.2f}" if ms < 10 else f"{ms:.1f}"
    return f"**{text}**" if name == best else text


def _table(setting: str, models: dict) -> list[str]:
    isa, _, threads, _, batch_text = setting.split()
    batch = int(batch_text)
    engines = [name for name in TITLES if any(name in found for found in models.values())]
    unit = "images/s" if batch > 1 else "ms"
    held = ", all held to AVX2" if isa == "avx2" else ""
    lines = [f"Batch {batch}, {threads} thread{'s' if threads != '1' else ''}{held}; {unit}:", ""]
    lines.append("| network | " + " | ".join(TITLES[name] for name in engines) + " | dla, times as fast as the best other |")
    lines.append("|---" * (len(engines) + 2) + "|")
    for model in MODELS:
        if model not in models:
            continue
        found = models[model]
        best = fastest_peer(found)
        ratio = f"{found[best]['median_ms'] / found['dla']['median_ms']:.2f}" if best and "dla" in found else "–"
        lines.append(f"| {model} | " + " | ".join(_cell(found, name, batch, best) for name in engines) + f" | {ratio} |")
    return lines + [""]


def replace(path: pathlib.Path, begin: str, end: str, lines: list[str]) -> None:
    """Puts the lines in place of what stands between the two markers in the file."""
    text = path.read_text()
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"{path}: needs the lines '{begin}' and '{end}' once each")
    before, rest = text.split(begin)
    _, after = rest.split(end)
    path.write_text(before + begin + "\n".join(["", *lines]) + "\n" + end + after)


def write(results: dict, path: pathlib.Path) -> None:
    lines = [f"{results['machine']}. Medians of interleaved rounds; bold: the fastest of the others.", ""]
    for setting, models in results["settings"].items():
        classifiers = {name: found for name, found in models.items() if name in MODELS}   # dense networks have a section of their own
        if classifiers:
            lines += _table(setting, classifiers)
    replace(path, BEGIN, END, lines)

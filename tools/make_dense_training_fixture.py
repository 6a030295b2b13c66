#!/usr/bin/env python3
"""Writes tests/data/dense_training_steps.json: three SGD steps of small dense networks by PyTorch, in double precision.

Like make_training_fixture.py, with a label for every pixel: weighted classes and pixels that do not count, once for segmentation
and once for boundaries (two classes, edge weight 10). The size is no multiple of 32, so that crops take part.
Run: tools/make_dense_training_fixture.py > tests/data/dense_training_steps.json (needs torch, timm, numpy).
"""
import json
import sys

import torch
from dense_reference import DLASeg
from make_timm_fixture import BLOCKS, formula
from make_training_fixture import steps
from timm.models.dla import DLA

import training_fixture

BATCH, HEIGHT, WIDTH, IGNORED = 3, 70, 91, 255
CASES = [
    dict(name="small_segment", levels=[1, 1, 1, 2, 1, 1], channels=[4, 6, 8, 8, 12, 12], block="basic", residual_root=False, num_classes=5,
         down_ratio=4, class_weights=[1.0, 0.25, 3.0, 0.0, 1.5]),
    dict(name="small_edges", levels=[1, 1, 1, 1, 2, 1], channels=[8, 8, 16, 16, 16, 32], block="bottleneck", cardinality=1, base_width=64,
         residual_root=True, num_classes=2, down_ratio=2, class_weights=[1.0, 10.0]),
]


def labels(classes):
    """(BATCH, HEIGHT, WIDTH); the C test makes the same."""
    count = BATCH * HEIGHT * WIDTH
    of_class = ((formula("labels", count).astype("float64") + 1.0) / 2.0 * classes).astype("int64").clip(0, classes - 1)
    of_class[formula("ignored", count) > 0.5] = IGNORED
    return torch.from_numpy(of_class).reshape(BATCH, HEIGHT, WIDTH)


def main():
    fixture = []
    torch.set_num_threads(1)
    images = torch.from_numpy(training_fixture.images(BATCH, HEIGHT, WIDTH)).permute(0, 3, 1, 2).double()
    for case in CASES:
        config = {key: value for key, value in case.items() if key != "class_weights"}
        base = DLA(config["levels"], config["channels"], num_classes=10, cardinality=config.get("cardinality", 1),
                   base_width=config.get("base_width", 64), block=BLOCKS[config["block"]], shortcut_root=config["residual_root"])
        del base.fc
        net = DLASeg(base, config["num_classes"], config["down_ratio"])
        net.up.weight.requires_grad_(False)
        weights, targets = torch.tensor(case["class_weights"]).double(), labels(config["num_classes"])
        result = steps(net, images, lambda log_probabilities: torch.nn.functional.nll_loss(log_probabilities, targets, weights, ignore_index=IGNORED))
        fixture.append(dict(config=config, batch=BATCH, height=HEIGHT, width=WIDTH, class_weights=case["class_weights"], **result))
    sys.stdout.write("[\n" + ",\n".join(json.dumps(case) for case in fixture) + "\n]\n")


if __name__ == "__main__":
    main()

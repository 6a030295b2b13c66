#!/usr/bin/env python3
"""Writes tests/data/training_steps.json: three SGD steps of small networks by PyTorch, in double precision.

Per network the losses, and per parameter three numbers of its first gradient and of its values after the last step: their sum,
the sum of their magnitudes, and the sum of element i times formula("probe", n)[i], which no permutation of elements keeps.
Run: tools/make_training_fixture.py > tests/data/training_steps.json (needs torch, timm, numpy).
"""
import json
import sys

import numpy as np
import timm.models.dla as dla
import torch
import training_fixture
from make_timm_fixture import BLOCKS, CLASSES, NETWORKS, formula

BATCH, HEIGHT, WIDTH, STEPS, RATE, MOMENTUM, DECAY = 6, 64, 96, 3, 0.01, 0.9, 1e-4


def numbers(tensor):
    values = tensor.detach().numpy().flatten()
    probe = formula("probe", values.size).astype(np.float64)
    return [float(f"{v:.9g}") for v in (values.sum(), np.abs(values).sum(), (values * probe).sum())]


def steps(net, images, loss_of):
    """Trains with the formula's parameters; returns the numbers of losses, first gradients and final state."""
    training_fixture.load(net)
    net = net.double().train()
    trained = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    optimiser = torch.optim.SGD([p for _, p in trained], lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    losses, gradients = [], {}
    for step in range(STEPS):
        optimiser.zero_grad()
        loss = loss_of(net(images))
        loss.backward()
        losses.append(float(f"{loss.item():.9g}"))
        if step == 0:
            gradients = {name: numbers(p.grad) for name, p in trained}
        optimiser.step()
    state = {name: numbers(t) for name, t in net.state_dict().items() if t.is_floating_point()}
    return dict(rate=RATE, momentum=MOMENTUM, decay=DECAY, losses=losses, gradients=gradients, state=state)


def main():
    fixture = []
    torch.set_num_threads(1)
    images = torch.from_numpy(training_fixture.images(BATCH, HEIGHT, WIDTH)).permute(0, 3, 1, 2).double()
    labels = torch.arange(BATCH) % CLASSES
    for config in NETWORKS:
        net = dla.DLA(config["levels"], config["channels"], num_classes=CLASSES, cardinality=config.get("cardinality", 1),
                      base_width=config.get("base_width", 64), block=BLOCKS[config["block"]], shortcut_root=config["residual_root"])
        result = steps(net, images, lambda logits: torch.nn.functional.cross_entropy(logits, labels))
        fixture.append(dict(config=dict(config, num_classes=CLASSES), batch=BATCH, height=HEIGHT, width=WIDTH, **result))
    sys.stdout.write("[\n" + ",\n".join(json.dumps(case) for case in fixture) + "\n]\n")


if __name__ == "__main__":
    main()

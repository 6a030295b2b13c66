#!/usr/bin/env python3
"""Writes tests/data/timm_logits.json: what timm gives for small networks with formula weights.

tests/formula_weights.h makes the same weights and inputs in C, so the C tests are anchored to the reference implementation
without Python. Run: tools/make_timm_fixture.py > tests/data/timm_logits.json (needs torch, timm, numpy).
"""
import json
import sys

import numpy
import timm.models.dla as dla
import torch

# The keys are those of a network config (docs/config.md).
NETWORKS = [
    dict(name='small_basic', levels=[1, 1, 1, 2, 2, 1], channels=[8, 16, 24, 32, 40, 48], block='basic', residual_root=False),
    dict(name='small_bottleneck', levels=[1, 2, 1, 2, 3, 1], channels=[16, 16, 32, 48, 64, 64], block='bottleneck', cardinality=1,
         base_width=64, residual_root=True),
    dict(name='small_grouped', levels=[1, 1, 1, 1, 2, 2], channels=[8, 16, 32, 32, 64, 64], block='bottleneck', cardinality=8,
         base_width=16, residual_root=False),
    dict(name='small_res2net', levels=[1, 1, 1, 2, 1, 1], channels=[8, 16, 32, 64, 64, 96], block='bottle2neck', cardinality=1,
         base_width=28, residual_root=False),
    dict(name='small_res2next', levels=[1, 1, 2, 1, 1, 1], channels=[8, 16, 32, 64, 64, 96], block='bottle2neck', cardinality=4,
         base_width=8, residual_root=True),
]
SIZES = [(1, 64, 64), (2, 64, 96), (1, 33, 47)]
CLASSES = 10
BLOCKS = {'basic': dla.DlaBasic, 'bottleneck': dla.DlaBottleneck, 'bottle2neck': dla.DlaBottle2neck}


def formula(name, count):
    seed = 2166136261
    for byte in name.encode():
        seed = ((seed ^ byte) * 16777619) % 2**32
    x = (numpy.arange(count, dtype=numpy.uint64) + seed).astype(numpy.uint32)
    x ^= x >> numpy.uint32(16)
    x *= numpy.uint32(0x7feb352d)
    x ^= x >> numpy.uint32(15)
    x *= numpy.uint32(0x846ca68b)
    x ^= x >> numpy.uint32(16)
    return (x >> numpy.uint32(8)).astype(numpy.float32) / numpy.float32(8388608) - numpy.float32(1)


def weights(name, tensor):
    shape = tuple(tensor.shape)
    random = formula(name, tensor.numel()).reshape(shape)
    if len(shape) == 4:
        return random * numpy.float32(numpy.sqrt(3.0 / (shape[1] * shape[2] * shape[3])))
    norm = name.rsplit('.', 1)[0] != 'fc'
    if norm and name.endswith(('.weight', 'running_var')):
        return numpy.float32(1) + numpy.float32(0.5) * random
    return numpy.float32(0.25) * random


def main():
    fixture = []
    torch.set_num_threads(1)
    for config in NETWORKS:
        network = dla.DLA(config['levels'], config['channels'], num_classes=CLASSES, cardinality=config.get('cardinality', 1),
                          base_width=config.get('base_width', 64), block=BLOCKS[config['block']], shortcut_root=config['residual_root']).eval()
        state = network.state_dict()
        network.load_state_dict({name: torch.from_numpy(weights(name, tensor)) if tensor.is_floating_point() else tensor
                                 for name, tensor in state.items()})
        for batch, height, width in SIZES:
            for module in network.modules():
                if isinstance(module, torch.nn.MaxPool2d):
                    module.ceil_mode = True
            x = torch.from_numpy(formula('input', batch * 3 * height * width).reshape(batch, 3, height, width))
            with torch.no_grad():
                logits = network.double()(x.double()).numpy()
            network.float()
            fixture.append(dict(config=dict(config, num_classes=CLASSES), batch=batch, height=height, width=width,
                                logits=[float(f'{v:.9g}') for v in logits.flatten()]))
    sys.stdout.write('[\n' + ',\n'.join(json.dumps(case) for case in fixture) + '\n]\n')


if __name__ == '__main__':
    main()

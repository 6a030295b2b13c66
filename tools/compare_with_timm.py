#!/usr/bin/env python3
"""Compares every published network with timm on the same weights: compare_with_timm.py build/dla [MODEL...]

Random weights with batch norm statistics measured on noise, so that activations have the size they have in a trained
network; then `dla run` (with and without --exact) and timm on the same input, at sizes that the reference takes and, with
timm's max-pools set to ceil mode, at sizes that it does not. The truth is timm in double precision: in float32, timm's own
rounding is as large as ours on such untrained networks, and is printed beside it. Prints max |difference| / max |logit|;
fails above 1e-3, or with --exact above 1e-4 where timm's own float32 is off by less than 0.8e-4, else 1.25 times that.
Needs torch, timm, numpy, safetensors.
"""
import argparse
import copy
import os
import subprocess
import sys
import tempfile

import numpy
import safetensors.torch
import timm
import torch

MODELS = ['dla34', 'dla46_c', 'dla46x_c', 'dla60x_c', 'dla60', 'dla60x', 'dla102', 'dla102x', 'dla102x2', 'dla169', 'dla60_res2net',
          'dla60_res2next']
SIZES = [(1, 224, 224), (2, 256, 320), (1, 225, 319), (2, 33, 47)]
LIMIT, EXACT_LIMIT = 1e-3, 1e-4   # Winograd's sums are of other terms
OF_SINGLE = 1.25   # of timm's own rounding, which on the deepest networks is above the limit itself


def make_network(name, **options):
    torch.manual_seed(0)
    network = timm.create_model(name, **options)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, options.get('in_chans', 3), 224, 224))
    return network.eval()


def differences(path, network, arguments, size):
    """Against timm in double precision: dla by default, dla --exact, timm in float32; and dla --exact against the latter."""
    batch, height, width = size
    for pool in network.modules():
        if isinstance(pool, torch.nn.MaxPool2d):
            pool.ceil_mode = height % 32 != 0 or width % 32 != 0
    x = torch.randn(batch, 3, height, width)
    with torch.no_grad():
        single = network(x).numpy()
        double = copy.deepcopy(network).double()(x.double()).numpy()

    def relative(a, b):
        assert a.shape == b.shape, (a.shape, b.shape)
        return float(numpy.abs(a - b).max() / numpy.abs(double).max())

    ours = []
    for option in ([], ['--exact']):
        numpy.save(os.path.join(path, 'x.npy'), x.numpy())
        subprocess.run([arguments.dla, 'run', arguments.model, '--weights', os.path.join(path, 'w.safetensors'), '--input',
                        os.path.join(path, 'x.npy'), '--output', os.path.join(path, 'y.npy'), *option], check=True)
        ours.append(numpy.load(os.path.join(path, 'y.npy')))
    return relative(ours[0], double), relative(ours[1], double), relative(single, double), relative(ours[1], single)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('dla', help='the dla command')
    parser.add_argument('models', nargs='*', default=MODELS)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    worst = worst_exact = 0.0
    failed = False
    print(f"{'max |difference| / max |logit|':32s} {'default':>10s} {'--exact':>10s} {'timm f32':>10s} {'--exact to timm f32':>20s}")
    with tempfile.TemporaryDirectory() as path:
        for name in arguments.models:
            arguments.model = name
            network = make_network(name)
            safetensors.torch.save_file(network.state_dict(), os.path.join(path, 'w.safetensors'))
            for size in SIZES:
                default, exact, single, between = differences(path, network, arguments, size)
                worst, worst_exact = max(worst, default), max(worst_exact, exact)
                failed = failed or default > LIMIT or exact > max(EXACT_LIMIT, OF_SINGLE * single)
                print(f"{name:16s} {size[0]} x {size[1]:3d} x {size[2]:3d}  {default:10.2e} {exact:10.2e} {single:10.2e} {between:20.2e}", flush=True)
    print(f"worst {worst:.2e} (limit {LIMIT:.0e}), --exact {worst_exact:.2e} (limit {EXACT_LIMIT:.0e}, or {OF_SINGLE} times timm's)")
    return failed


if __name__ == '__main__':
    sys.exit(main())

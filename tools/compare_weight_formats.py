#!/usr/bin/env python3
"""Every published network from every format of weights: compare_weight_formats.py build/dla [MODEL...]

Saves a state dict of timm as safetensors, with PyTorch's new and legacy formats (plain, under `model`, with the prefix
`module.`) and with PaddlePaddle's protocols 2 and 4 (its names of running statistics, its transposed classifier), and runs the
network on each. The logits must be equal to the last bit. Needs torch, timm, numpy, safetensors, paddlepaddle.
"""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy
import paddle
import safetensors.torch
import timm
import torch


def state_dict(name):
    torch.manual_seed(0)
    network = timm.create_model(name).train()
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64))
    return network.state_dict()


def as_paddle(state):
    renamed = {name.replace('running_mean', '_mean').replace('running_var', '_variance'): value.numpy()
               for name, value in state.items() if 'num_batches_tracked' not in name}
    return {name: paddle.to_tensor(value.T.copy() if name == 'fc.weight' and value.ndim == 2 else value) for name, value in renamed.items()}


def save_all(state, folder):
    """Names of the formats and paths of the files, safetensors first."""
    path = {name: os.path.join(folder, name) for name in ('safetensors', 'zip', 'zip under model', 'legacy with module.', 'paddle 2', 'paddle 4')}
    safetensors.torch.save_file(state, path['safetensors'])
    torch.save(state, path['zip'])
    torch.save({'model': state, 'epoch': 3}, path['zip under model'])
    torch.save({'state_dict': {'module.' + name: value for name, value in state.items()}}, path['legacy with module.'],
               _use_new_zipfile_serialization=False)
    for protocol in (2, 4):
        paddle.save(as_paddle(state), path[f'paddle {protocol}'] + '.pdparams', protocol=protocol)
        path[f'paddle {protocol}'] += '.pdparams'
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('dla')
    parser.add_argument('models', nargs='*', default=timm.list_models('dla*'))
    arguments = parser.parse_args()
    unequal = 0
    with tempfile.TemporaryDirectory() as folder:
        x, y = os.path.join(folder, 'x.npy'), os.path.join(folder, 'y.npy')
        numpy.save(x, numpy.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(numpy.float32))
        for model in arguments.models:
            logits = {}
            for name, path in save_all(state_dict(model), folder).items():
                subprocess.run([arguments.dla, 'run', model, '--weights', path, '--input', x, '--output', y], check=True)
                logits[name] = numpy.load(y).tobytes()
            different = [name for name in logits if logits[name] != logits['safetensors']]
            unequal += len(different)
            print(f'{model:16}', 'unequal: ' + ', '.join(different) if different else f'{len(logits)} files, equal logits', flush=True)
    sys.exit(unequal > 0)


if __name__ == '__main__':
    main()

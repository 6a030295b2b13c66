#!/usr/bin/env python3
"""Exports every published network to ONNX and compares ONNX Runtime with timm and with `dla run`.

    compare_with_onnxruntime.py build/dla [MODEL...]

Three parts:
  networks        all of them (or those named) on random weights: a file of fixed size at 224x224 and one of free size at 225x319,
                  timm's max-pools set to ceil mode there. Against timm in double precision, beside it what timm itself and
                  `dla run --exact` make of it in float32
  variants        other opsets, output strides, embeddings, inputs and dense prediction, against `dla run --exact`
  preprocessing   the built-in model on photographs, pixels in, against `dla preprocess` and `dla run --exact`
Every file passes onnx.checker with full shape inference. Numbers are max |difference| / max |output|; fails above the limit.
Needs torch, timm, numpy, safetensors, onnx, onnxruntime, Pillow.
"""
import argparse
import copy
import glob
import json
import os
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
import PIL.Image
import PIL.ImageOps
import safetensors.torch
import torch

from compare_with_timm import MODELS, make_network
from dense_reference import DLASeg, settle

PHOTOS = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'examples', 'photos')

LIMIT = 1e-4
VARIANT_LIMIT = 2e-4  # between two results in float32, each of which may be LIMIT away from the exact one
RESIZE_LIMIT = 5e-3   # some pixels in a thousand differ by one of 255: another implementation of the filter


class Comparison:
    def __init__(self, dla, folder):
        self.dla, self.folder, self.worst = dla, folder, 0.0

    def path(self, name):
        return os.path.join(self.folder, name)

    def run_dla(self, *arguments):
        return subprocess.run([self.dla, *arguments], check=True, capture_output=True, text=True).stdout

    def export(self, *arguments):
        """Writes m.onnx, checks it, and opens it in ONNX Runtime."""
        self.run_dla('export', *arguments, self.path('m.onnx'))
        onnx.checker.check_model(self.path('m.onnx'), full_check=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(self.path('m.onnx'), options, providers=['CPUExecutionProvider'])

    def dla_output(self, x, *arguments):
        numpy.save(self.path('x.npy'), x)
        self.run_dla('run', *arguments, '--exact', '--input', self.path('x.npy'), '--output', self.path('y.npy'))
        return numpy.load(self.path('y.npy'))

    def report(self, what, expected, got, limit, *others):
        assert all(y.shape == expected.shape for y in (got, *others)), (what, got.shape, expected.shape)
        distances = [float(numpy.abs(y - expected).max() / numpy.abs(expected).max()) for y in (got, *others)]
        self.worst = max(self.worst, distances[0] / limit)
        print(f'{what:62s}' + ''.join(f' {d:9.2e}' for d in distances) + ('' if distances[0] <= limit else '  TOO MUCH'), flush=True)


def run(session, x):
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def compare_network(c, name):
    network = make_network(name)
    safetensors.torch.save_file(network.state_dict(), c.path('w.safetensors'))
    for height, width, options in ((224, 224, []), (225, 319, ['--dynamic-size'])):
        for pool in network.modules():
            if isinstance(pool, torch.nn.MaxPool2d):
                pool.ceil_mode = height % 32 != 0
        session = c.export(name, '--weights', c.path('w.safetensors'), *options)
        x = torch.randn(2, 3, height, width)
        with torch.no_grad():
            itself, exact = network(x).numpy(), copy.deepcopy(network).double()(x.double()).numpy()
        c.report(f'{name} {height}x{width} {" ".join(options)}', exact, run(session, x.numpy()), LIMIT,
                 c.dla_output(x.numpy(), name, '--weights', c.path('w.safetensors')), itself)


def compare_variant(c, base, changes, *options):
    """A published network with a changed config; its weights are timm's for that number of classes."""
    config = json.loads(c.run_dla('info', base, '--print-config'))
    config.update(changes)
    with open(c.path('net.json'), 'w') as file:
        json.dump(config, file)
    network = make_network(base, num_classes=config['num_classes'], in_chans=config['in_channels'])
    safetensors.torch.save_file(network.state_dict(), c.path('w.safetensors'))
    arguments = ['--config', c.path('net.json'), '--weights', c.path('w.safetensors')]
    x = numpy.random.default_rng(0).standard_normal((1, config['in_channels'], 225, 319), dtype=numpy.float32)
    got = run(c.export(*arguments, '--dynamic-size', *options), x)
    c.report(f'{base} {changes or ""} {" ".join(options)}', c.dla_output(x, *arguments), got, VARIANT_LIMIT)


def compare_dense(c, down_ratio):
    torch.manual_seed(0)
    network = settle(DLASeg('dla34', 19, down_ratio))
    safetensors.torch.save_file(network.state_dict(), c.path('w.safetensors'))
    arguments = ['dla34up', '--weights', c.path('w.safetensors'), '--classes', '19', '--down-ratio', str(down_ratio)]
    x = torch.randn(1, 3, 225, 319)
    with torch.no_grad():
        exact = copy.deepcopy(network).double()(x.double()).numpy()
    c.report(f'dla34up, down ratio {down_ratio}', exact, run(c.export(*arguments, '--dynamic-size'), x.numpy()), LIMIT,
             c.dla_output(x.numpy(), *arguments))


def compare_preprocessing(c, photos):
    normalize, resize = c.export('--with-preprocessing', 'normalize'), c.export('--with-preprocessing', 'resize')
    card = json.loads(normalize.get_modelmeta().custom_metadata_map['pretrained_cfg'])
    mean, std = (numpy.float32(card[key]).reshape(1, 3, 1, 1) for key in ('mean', 'std'))
    for photo in photos:
        pixels = numpy.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(photo)).convert('RGB'))
        name = os.path.basename(photo)
        c.run_dla('preprocess', photo, '--size', str(card['input_size'][-1]), '--crop-pct', str(card['crop_pct']), '--interpolation',
                  card['interpolation'], '--output', c.path('p.npy'))
        preprocessed = numpy.load(c.path('p.npy'))
        expected = c.dla_output(preprocessed)
        crop = numpy.rint((preprocessed * std + mean) * 255).astype(numpy.uint8).transpose(0, 2, 3, 1)
        c.report(f'{name}: normalize', expected, run(normalize, numpy.ascontiguousarray(crop)), LIMIT)
        c.report(f'{name} {pixels.shape[1]}x{pixels.shape[0]}: resize', expected, run(resize, pixels[None]), RESIZE_LIMIT)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('dla', help='the dla command')
    parser.add_argument('models', nargs='*')
    parser.add_argument('--skip-networks', action='store_true', help='variants and preprocessing only')
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        c = Comparison(arguments.dla, folder)
        print(f'{"":62s} {"ORT":>9s} {"dla run":>9s} {"timm":>9s}')
        for name in [] if arguments.skip_networks else arguments.models or MODELS:
            compare_network(c, name)
        if not arguments.models:
            for opset in range(18, 23):
                compare_variant(c, 'dla46_c', {}, '--opset', str(opset))
            compare_variant(c, 'dla34', {'output_stride': 16})
            compare_variant(c, 'dla34', {'output_stride': 8})
            compare_variant(c, 'dla60_res2next', {'output_stride': 8})
            compare_variant(c, 'dla34', {'num_classes': 0})
            compare_variant(c, 'dla34', {'in_channels': 5, 'num_classes': 7})
            compare_dense(c, 2)
            compare_dense(c, 8)
            compare_preprocessing(c, sorted(glob.glob(os.path.join(PHOTOS, '*.jpg')) + glob.glob(os.path.join(PHOTOS, '*.webp'))))
    print(f'worst: {c.worst:.3f} of its limit')
    return c.worst > 1


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
"""Makes the small weights and array files in fuzz/corpus, which tests read, too: python3 tools/make_weights_fixtures.py

Needs numpy, safetensors, torch and paddlepaddle. Element i of every tensor, in row-major order, is (i - 3) * 0.5, which float16
and bfloat16 hold exactly, so the tests know all values.
"""
import argparse
import collections
import io
import pathlib
import pickle
import zipfile

import numpy
import paddle
import safetensors.numpy
import torch

root = pathlib.Path(__file__).resolve().parent.parent
corpus = root / "fuzz" / "corpus"


def values(*shape, dtype=numpy.float32):
    count = int(numpy.prod(shape))
    return ((numpy.arange(count) - 3) * 0.5).reshape(shape).astype(dtype)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def make_npy():
    def saved(array, **options):
        stream = io.BytesIO()
        numpy.lib.format.write_array(stream, array, **options)
        return stream.getvalue()

    write(corpus / "npy" / "float32_nchw.npy", saved(values(1, 3, 2, 2)))
    write(corpus / "npy" / "float64_fortran.npy", saved(numpy.asfortranarray(values(2, 3, dtype=numpy.float64))))
    write(corpus / "npy" / "int64_version2.npy", saved(numpy.arange(4), version=(2, 0)))
    write(corpus / "npy" / "float16_version3.npy", saved(values(4, dtype=numpy.float16), version=(3, 0)))
    write(corpus / "npy" / "scalar_uint8.npy", saved(numpy.array(7, numpy.uint8)))
    write(corpus / "npy" / "empty_bool.npy", saved(numpy.zeros((0, 4), bool)))


def make_safetensors():
    tensors = {"base_layer.0.weight": values(2, 3, 1, 1), "fc.bias": values(2, dtype=numpy.float16), "steps": numpy.array(5)}
    metadata = {"architecture": "dla34", "labels": '["a", "b"]'}
    write(corpus / "safetensors" / "reference.safetensors", safetensors.numpy.save(tensors, metadata))
    write(corpus / "safetensors" / "empty.safetensors", safetensors.numpy.save({}))
    write(corpus / "safetensors" / "zero_side.safetensors", safetensors.numpy.save({"a": values(0, 4), "b": values(1)}))


def torch_tensors():
    def tensor(*shape, dtype=torch.float32):
        return torch.from_numpy(values(*shape)).to(dtype)

    shared = tensor(12)
    return {
        "plain": tensor(2, 3),
        "turned": tensor(2, 3).T.contiguous().T,
        "channels_last": tensor(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "first_of_shared": shared[:6].view(2, 3),
        "rows_of_shared": torch.stack([tensor(4), tensor(4) + 100])[0],
        "parameter": torch.nn.Parameter(tensor(3)),
        "half": tensor(4, dtype=torch.float16),
        "brain": tensor(4, dtype=torch.bfloat16),
        "double": tensor(4, dtype=torch.float64),
        "long": torch.tensor(5),
        "empty": tensor(0, 4),
        "repeated": torch.tensor([-1.5]).expand(2, 3),
    }


def saved_by_torch(content, **options):
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def make_torch():
    tensors = torch_tensors()
    parameter = torch.nn.Parameter(tensors["plain"].clone())
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "arch": "dla34",
        "args": argparse.Namespace(lr=0.1, size=torch.Size([3, 224, 224]), names=["a", "b"]),
        "best": numpy.float64(0.25),
        "state_dict": collections.OrderedDict((f"module.{name}", tensor) for name, tensor in tensors.items()),
        "optimizer": optimizer.state_dict(),
    }
    for folder, options in (("torch_zip", {}), ("torch_legacy", {"_use_new_zipfile_serialization": False})):
        write(corpus / folder / "views.pth", saved_by_torch(tensors, **options))
        write(corpus / folder / "checkpoint.pth", saved_by_torch(checkpoint, **options))
        write(corpus / folder / "empty.pth", saved_by_torch({}, **options))
    compressed = io.BytesIO()
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as target, zipfile.ZipFile(
        io.BytesIO(saved_by_torch(tensors))
    ) as source:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry.filename))
    write(corpus / "torch_zip" / "compressed.pth", compressed.getvalue())
    program = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), program)
    write(corpus / "torch_zip" / "program.pth", program.getvalue())


def make_paddle():
    arrays = {
        "plain": values(2, 3),
        "bn._mean": values(4),
        "bn._variance": values(4),
        "half": values(4, dtype=numpy.float16),
        "double": values(4, dtype=numpy.float64),
        "long": numpy.array([5]),
        "empty": values(0, 4),
    }
    tensors = {name: paddle.to_tensor(array) for name, array in arrays.items()}
    for protocol in (2, 3, 4):
        path = corpus / "paddle" / f"protocol{protocol}.pdparams"
        path.parent.mkdir(parents=True, exist_ok=True)
        paddle.save(tensors, str(path), protocol=protocol)
    # What paddle.save writes at protocol 2 for arrays above 1 GiB, with slices of 4 elements.
    sliced = {f"big@@.{i}": values(10).flatten()[4 * i : 4 * i + 4] for i in range(3)}
    sliced["UnpackBigParamInfor@@"] = {"big": {"OriginShape": (2, 5), "slices": list(sliced)}}
    sliced["small"] = values(3)
    write(corpus / "paddle" / "sliced.pdparams", pickle.dumps(sliced, protocol=2))
    fortran = {"model": {"fortran": numpy.asfortranarray(values(2, 3))}}
    write(corpus / "paddle" / "fortran.pdparams", pickle.dumps(fortran, protocol=4))


def make_pickles():
    shared = ["text", b"bytes", 1.5, None, True]
    content = {
        "integers": [0, 255, 65535, -1, 2**31 - 1, -(2**31), 2**40, -(2**40), 2**80],
        "sequences": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], {1: 2}),
        "shared": [shared, shared],
        "ordered": collections.OrderedDict(a=1, b=2),
        "sets": [{1, 2}, frozenset([3])],
        "long text": "x" * 300,
        "long bytes": b"y" * 300,
        "buffer": bytearray(b"z" * 10),
    }
    plain = {"a": [1, -2, 2**40, 1.5, None, True, False, "text"], "t": (1, 2, 3, 4)}
    integers = content["integers"]
    for protocol in range(6):
        content["integers"] = integers[: 8 if protocol < 2 else 9]  # decimals above 64 bits are not read
        chosen = plain if protocol == 0 else content
        write(corpus / "pickle" / f"protocol{protocol}.pkl", pickle.dumps(chosen, protocol=protocol))


make_npy()
make_safetensors()
make_torch()
make_paddle()
make_pickles()

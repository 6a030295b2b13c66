#!/usr/bin/env python3
"""One whole training step of a network against PyTorch: loss, every gradient, and the parameters after three SGD steps.

    compare_training_with_pytorch.py BUILD [MODEL...]

BUILD holds the training_steps program. PyTorch runs the same steps twice, in double precision (the truth) and in float32 (how
far float32 itself strays); what is printed is the largest difference of a tensor relative to that tensor's largest value.

The limit holds for direct convolutions. With Winograd, whose sums differ by some 1e-5, now and then a relu or a maximum flips
against the truth, and one flip moves gradients by percents at this small batch: that row is printed, not judged; the tests
of the kernels bound Winograd's own error.

Needs torch, timm, numpy, safetensors.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np
import timm
import torch
import training_fixture
from safetensors.numpy import load_file, save_file

STEPS, RATE, MOMENTUM, DECAY = 3, 0.001, 0.9, 1e-4
LIMIT = 1e-4


def training(model, images, labels, dtype):
    """Losses of three steps, the first step's gradients, and the state afterwards."""
    net = timm.create_model(model, num_classes=10)
    training_fixture.load(net)
    net = net.to(dtype).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    losses, gradients = [], {}
    for step in range(STEPS):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(images.to(dtype)), labels)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            gradients = {name: p.grad.clone().double().numpy() for name, p in net.named_parameters()}
        optimiser.step()
    state = {k: v.double().numpy() for k, v in net.state_dict().items() if "num_batches" not in k}
    return losses, gradients, state


def largest_difference(actual, expected, what):
    """Over all tensors: difference relative to the tensor's largest value, and the tensor's name."""
    worst, name = 0.0, ""
    for key, value in expected.items():
        scale = max(np.abs(value).max(), 1e-12)
        difference = np.abs(actual[what + key].reshape(value.shape) - value).max() / scale
        if difference > worst:
            worst, name = difference, key
    return worst, name


def compare(build, model, exact):
    net = timm.create_model(model, num_classes=10)
    training_fixture.load(net)
    start = net.state_dict()
    batch, side = 8, 64
    pixels = training_fixture.images(batch, side, side)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    labels = torch.arange(batch) % 10
    with tempfile.TemporaryDirectory() as folder:
        weights, out = os.path.join(folder, "in.safetensors"), os.path.join(folder, "out.safetensors")
        save_file({k: v.numpy() for k, v in start.items()}, weights, {"architecture": model, "num_classes": "10"})
        save_file({"images": pixels, "labels": labels.numpy().astype(np.int32)}, weights + ".images")
        config = os.path.join(folder, "network.json")
        text = subprocess.run([os.path.join(build, "dla"), "info", model, "--print-config", "--classes", "10"], capture_output=True, text=True, check=True).stdout
        with open(config, "w") as file:
            file.write(text)
        arguments = [os.path.join(build, "training_steps"), config, weights, out, str(STEPS), str(RATE), str(MOMENTUM), str(DECAY)]
        subprocess.run(arguments + (["exact"] if exact else []), check=True)
        ours = load_file(out)
    truth = training(model, images, labels, torch.float64)
    single = training(model, images, labels, torch.float32)
    ok = True
    for name, result in (("dla", (ours["losses"], {}, {})), ("PyTorch float32", single)):
        if name == "dla":
            gradient, gradient_name = largest_difference(ours, truth[1], "gradient.")
            state, state_name = largest_difference(ours, truth[2], "")
        else:
            gradient, gradient_name = largest_difference(single[1], truth[1], "")
            state, state_name = largest_difference(single[2], truth[2], "")
        loss = max(abs(a - b) / abs(b) for a, b in zip(result[0], truth[0]))
        print(f"{model:16s} {'direct  ' if exact else 'winograd'} {name:16s} loss {loss:.1e}  gradient {gradient:.1e} ({gradient_name})  "
              f"after {STEPS} steps {state:.1e} ({state_name})", flush=True)
        if name == "dla":
            ok = max(loss, gradient, state) <= LIMIT
    return ok or not exact


def main():
    torch.set_num_threads(2)
    models = sys.argv[2:] or ["dla34", "dla46x_c", "dla102", "dla60_res2next"]
    results = [compare(sys.argv[1], model, exact) for model in models for exact in (True, False)]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()

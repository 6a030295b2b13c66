#!/usr/bin/env python3
"""One whole training step of a network against PyTorch: loss, every gradient, and the parameters after three SGD steps.

    compare_training_with_pytorch.py BUILD [MODEL...]     (dla34 dla46x_c dla102 dla60_res2next)

BUILD holds the training_steps program. PyTorch runs the same steps twice, in double precision (the truth) and in float32 (how
far float32 itself strays); what is printed is the largest difference of a tensor relative to that tensor's largest value.

Once with direct convolutions alone and once with the kernels that training takes, Winograd among them; each must stay within
the limit. A tensor whose gradient nearly vanishes counts relative to a thousandth of the largest gradient.

A comparison at this precision needs a point where the gradient is continuous: where an activation lies within rounding of
zero, or the two largest of a pool's window within rounding of each other, one side takes one branch and the other the other, and
at so small a batch that moves gradients by percents (PyTorch's own float32 gradients of an ordinary random network differ from
its double ones by some 1e-2). So every batch norm's bias is three of its deviations from zero, upwards or downwards for the same
channels everywhere, so that residual sums are far from zero, too; and of several sets of images the one is taken that keeps
farthest from such a branch, which the output names (`margin`).

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
from make_timm_fixture import formula
from safetensors.numpy import load_file, save_file

STEPS, RATE, MOMENTUM, DECAY = 3, 0.001, 0.9, 1e-4
BATCH, SIDE, DRAWS, TRIALS, ENOUGH = 4, 64, 8, 4, 3e-6
LIMIT = 1e-4


def network(model):
    net = timm.create_model(model, num_classes=10)
    training_fixture.load(net)
    with torch.no_grad():
        for name, bias in net.named_parameters():
            if bias.ndim == 1 and name.endswith("bias") and not name.startswith("fc."):
                bias.copy_(torch.where((torch.arange(len(bias)) * 7 + 3) % 10 < 7, bias.abs(), -bias.abs()))
    return net


def training(model, images, labels, dtype):
    """(losses of three steps, the first step's gradients, the state afterwards), and the margin of all steps."""
    net = network(model).to(dtype).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    losses, gradients, distances = [], {}, watch_margin(net)
    for step in range(STEPS):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(images.to(dtype)), labels)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            gradients = {name: p.grad.clone().double().numpy() for name, p in net.named_parameters()}
        optimiser.step()
    state = {k: v.double().numpy() for k, v in net.state_dict().items() if "num_batches" not in k}
    return (losses, gradients, state), min(distances)


def watch_margin(net):
    """A list that gets, in every forward pass, how far activations are from a relu's zero and from a tie in a pool's window."""
    distances = []

    def relu(_, inputs):
        distances.append(inputs[0].detach().abs().min().item())

    def pool(module, inputs):
        k = module.kernel_size
        largest = inputs[0].detach().unfold(2, k, k).unfold(3, k, k).flatten(4).topk(2, dim=-1).values
        distances.append((largest[..., 0] - largest[..., 1])[largest[..., 0] > 0].min().item())

    for module in net.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_pre_hook(relu)
        if isinstance(module, torch.nn.MaxPool2d) and module.kernel_size > 1:
            module.register_forward_pre_hook(pool)
    return distances


def draw_images(draw):
    """(batch, 3, height, width)"""
    pixels = formula(f"images {draw}", BATCH * SIDE * SIDE * 3).reshape(BATCH, SIDE, SIDE, 3)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def first_margin(model, draw):
    net = network(model).double().train()
    distances = watch_margin(net)
    with torch.no_grad():
        net(draw_images(draw).double())
    return min(distances)


def find_truth(model, labels):
    """Images that keep their distance in all steps, as far as the draws have such, and what training on them gives."""
    best = (-1.0, None, None)
    for draw in sorted(range(DRAWS), key=lambda draw: -first_margin(model, draw))[:TRIALS]:
        images = draw_images(draw)
        result, distance = training(model, images, labels, torch.float64)
        if distance > best[0]:
            best = distance, images, result
        if distance > ENOUGH:
            break
    return best


def largest_difference(actual, expected):
    """Over all tensors: difference relative to the tensor's largest value, and the tensor's name."""
    worst, name = 0.0, ""
    least = 1e-3 * max(np.abs(value).max() for value in expected.values())
    for key, value in expected.items():
        scale = max(np.abs(value).max(), least)
        difference = np.abs(actual[key].reshape(value.shape) - value).max() / scale
        if difference > worst:
            worst, name = difference, key
    return worst, name


def ours(build, model, start, pixels, labels, more):
    """What training() gives, from the C library."""
    with tempfile.TemporaryDirectory() as folder:
        weights, out = os.path.join(folder, "in.safetensors"), os.path.join(folder, "out.safetensors")
        save_file({k: v.numpy() for k, v in start.items()}, weights, {"architecture": model, "num_classes": "10"})
        save_file({"images": pixels, "labels": labels.numpy().astype(np.int32)}, weights + ".images")
        config = os.path.join(folder, "network.json")
        text = subprocess.run([os.path.join(build, "dla"), "info", model, "--print-config", "--classes", "10"], capture_output=True, text=True, check=True).stdout
        with open(config, "w") as file:
            file.write(text)
        arguments = [os.path.join(build, "training_steps"), config, weights, out, str(STEPS), str(RATE), str(MOMENTUM), str(DECAY)]
        subprocess.run(arguments + more, check=True)
        result = load_file(out)
    return result["losses"], {k[len("gradient."):]: v for k, v in result.items() if k.startswith("gradient.")}, result


def compare(build, model):
    start = network(model).state_dict()
    labels = torch.arange(BATCH) % 10
    distance, images, truth = find_truth(model, labels)
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    print(f"{model:16s} margin {distance:.1e}", flush=True)
    ok = True
    for name, result in (
        ("dla, direct", ours(build, model, start, pixels, labels, ["exact"])),
        ("dla", ours(build, model, start, pixels, labels, [])),
        ("PyTorch float32", training(model, images, labels, torch.float32)[0]),
    ):
        loss = max(abs(a - b) / abs(b) for a, b in zip(result[0], truth[0]))
        gradient, gradient_name = largest_difference(result[1], truth[1])
        state, state_name = largest_difference(result[2], truth[2])
        print(f"{model:16s} {name:16s} loss {loss:.1e}  gradient {gradient:.1e} ({gradient_name})  "
              f"after {STEPS} steps {state:.1e} ({state_name})", flush=True)
        ok = ok and (name.startswith("PyTorch") or max(loss, gradient, state) <= LIMIT)
    return ok


def main():
    torch.set_num_threads(2)
    models = sys.argv[2:] or ["dla34", "dla46x_c", "dla102", "dla60_res2next"]
    results = [compare(sys.argv[1], model) for model in models]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()

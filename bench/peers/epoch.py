"""One epoch of training in PyTorch (float32, channels last) on a folder of photographs: run.sh --epoch FOLDER.

What `dla train` does with its recipe for Imagenette (docs/training.md) but for the changes of colour: random resized crops and mirroring
of decoded photographs in memory, label smoothing, SGD with Nesterov momentum, averaged weights. Prints seconds and images per second;
log.jsonl of a run of `dla train` has the same of every epoch.
"""

from __future__ import annotations

import argparse
import copy
import pathlib
import random
import time

import numpy as np
import timm
import torch
from PIL import Image
from torchvision.transforms import v2 as transforms


def read_photographs(folder: pathlib.Path) -> list[tuple[torch.Tensor, int]]:
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    return [(torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1), label)
            for label, name in enumerate(classes) for path in sorted(name.iterdir())]


def main() -> None:
    parser = argparse.ArgumentParser(prog="run.sh --epoch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="a folder of photographs for each class")
    parser.add_argument("--model", default="dla46_c")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compiled", action="store_true", help="through torch.compile")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    photographs = read_photographs(arguments.folder)
    random.Random(1).shuffle(photographs)
    augment = transforms.Compose([transforms.RandomResizedCrop(arguments.size, scale=(0.25, 1.0), antialias=True),
                                  transforms.RandomHorizontalFlip(), transforms.ToDtype(torch.float32, scale=True),
                                  transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    net = timm.create_model(arguments.model, num_classes=len({label for _, label in photographs}))
    net = net.to(memory_format=torch.channels_last).train()
    average = copy.deepcopy(net)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4)
    forward = torch.compile(net) if arguments.compiled else net

    def step(batch: list[tuple[torch.Tensor, int]]) -> None:
        images = torch.stack([augment(photograph) for photograph, _ in batch]).to(memory_format=torch.channels_last)
        labels = torch.tensor([label for _, label in batch])
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(forward(images), labels, label_smoothing=0.1).backward()
        optimiser.step()
        with torch.no_grad():
            for mean, value in zip(average.state_dict().values(), net.state_dict().values()):
                if mean.is_floating_point():
                    mean.lerp_(value, 0.001)

    step(photographs[:arguments.batch])   # compiles, allocates
    start = time.perf_counter()
    count = len(photographs) // arguments.batch * arguments.batch
    for first in range(0, count, arguments.batch):
        step(photographs[first:first + arguments.batch])
    seconds = time.perf_counter() - start
    print(f"{arguments.model}, PyTorch {torch.__version__}{' compiled' if arguments.compiled else ''}, batch {arguments.batch}, "
          f"{arguments.size}x{arguments.size}, {arguments.threads} threads: {count} images in {seconds:.1f} s, {count / seconds:.1f} a second")


if __name__ == "__main__":
    main()

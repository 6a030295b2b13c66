#!/usr/bin/env python3
"""Images per second of PyTorch's float32 training step (channels last), for comparison with `dla bench --train`.

    train_speed_pytorch.py MODEL BATCH SIZE THREADS [STEPS]
"""
import sys
import time

import timm
import torch

model, batch, size, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
steps = int(sys.argv[5]) if len(sys.argv) > 5 else 4
torch.set_num_threads(threads)
net = timm.create_model(model).to(memory_format=torch.channels_last).train()
images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
labels = torch.arange(batch) % 1000
optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
times = []
for _ in range(steps + 1):
    start = time.perf_counter()
    optimiser.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(net(images), labels).backward()
    optimiser.step()
    times.append(time.perf_counter() - start)
times = sorted(times[1:])
print(f"{model} PyTorch {torch.__version__} batch {batch} size {size} threads {threads}: {batch / times[len(times) // 2]:.1f} images/s")
